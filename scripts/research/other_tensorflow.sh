#!/usr/bin/env bash
# Run an exported model on images in another release of TensorFlow, in an environment of its own:
#   bash scripts/research/other_tensorflow.sh EXPORT/1 IMAGE [IMAGE ...]
#   FCIS_OTHER_TENSORFLOW   release, 2.20.* unless set
set -euo pipefail
release=${FCIS_OTHER_TENSORFLOW:-2.20.*}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place"
"$place/bin/python" -m pip install -q --disable-pip-version-check "tensorflow-cpu==$release"
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3}
"$place/bin/python" -I -c 'import tensorflow as tf; print("TensorFlow", tf.__version__)'
"$place/bin/python" -I "$(dirname "$0")/../deploy/run_saved_model.py" "$@"
