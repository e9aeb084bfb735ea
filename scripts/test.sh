#!/usr/bin/env bash
# All tests, in .venv, which is made if needed. Arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
exec python -m pytest "$@"
