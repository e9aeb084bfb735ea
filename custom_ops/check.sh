#!/usr/bin/env bash
# The kernels without TensorFlow: values, sanitizers, and where nvcc is present the CUDA build.
# Then random calls of the built operations against the oracle. CALLS and ROUNDS say how many.
set -euo pipefail
source "$(dirname "$0")/../scripts/environment.sh"
make --no-print-directory -C custom_ops check sanitize ROUNDS="${ROUNDS:-150}"
if command -v nvcc >/dev/null; then
  make --no-print-directory -C custom_ops cuda gpu
else
  echo "skipped: CUDA kernels are not compiled, there is no nvcc"
fi
# The kernels for TensorFlow on a GPU need only its headers, which its package for CPUs has too.
flags=$(python -c 'import tensorflow as tf; print(*tf.sysconfig.get_compile_flags())')
# shellcheck disable=SC2086
"${CXX:-g++}" -fsyntax-only -w $flags custom_ops/kernels_gpu.cc
python custom_ops/tests/fuzz.py --calls "${CALLS:-2000}"
