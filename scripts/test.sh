#!/usr/bin/env bash
# Run all tests in .venv, which is made if needed. Arguments are passed to pytest.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
exec python -m pytest "$@"
