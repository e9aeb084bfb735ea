# Sourced by the other scripts: makes .venv with the project in it, once, and puts it on PATH.
#   PYTHON      interpreter to use; by default the first of python3.13, 3.12, 3.11, python3 that fits
#   FCIS_EXTRA  cpu (default) or gpu

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "error: $*" >&2
  exit 1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

extra=${FCIS_EXTRA:-cpu}
stamp=".venv/fcis-$extra-$(cksum <setup.py | cut -d' ' -f1)"
if [ ! -e "$stamp" ]; then
  python=$(find_python) || fail "Python 3.11, 3.12 or 3.13 is needed; install it, for example apt-get install python3.11 python3.11-venv"
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make virtual environments; apt-get install python3-venv"
  echo "making .venv with TensorFlow ($extra); about a minute" >&2
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".[$extra,test]" ||
    fail "installation failed; see the lines above"
  rm -f .venv/fcis-*
  touch "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
