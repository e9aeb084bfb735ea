#!/usr/bin/env bash
# Run all tests in .venv, which is made if needed. Arguments are passed to pytest; -n 0 runs
# them in one process.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
# The files are shared out to one process a core, at most four: each needs 2 GB of memory.
exec python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
