# Sourced by the other scripts: makes .venv with the project in it, once, and puts it on PATH.
#   PYTHON      interpreter to use; by default the newest that pyproject.toml allows
#   FCIS_EXTRA  cpu (default) or gpu

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "error: $*" >&2
  exit 1
}

# The minor versions of Python 3 that the line `requires-python = ">=3.LOW,<3.END"` allows.
supported=$(sed -n 's/^requires-python = ">=3\.\([0-9]*\),<3\.\([0-9]*\)"$/\1 \2/p' pyproject.toml)
[ -n "$supported" ] || fail 'pyproject.toml: expected a line requires-python = ">=3.LOW,<3.END"'
lowest=${supported% *} newest=$((${supported#* } - 1))
pythons="Python 3.$lowest to 3.$newest"

fits() {
  "$1" -c "import sys; sys.exit(not (3, $lowest) <= sys.version_info[:2] <= (3, $newest))" 2>/dev/null
}

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    fits "$PYTHON" || fail "PYTHON=$PYTHON: expected $pythons; name another or unset it"
    echo "$PYTHON"
    return
  fi
  for candidate in $(seq -f 'python3.%g' "$newest" -1 "$lowest") python3; do
    if fits "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  fail "$pythons is needed; for example apt-get install python3 python3-venv"
}

make_venv() {
  local python
  python=$(find_python) || exit 1
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make virtual environments; apt-get install python3-venv"
  "$python" -m venv .venv || fail "$python could not make .venv; rm -r .venv and see the lines above"
}

ensure_installed() {  # ensure_installed EXTRAS: install the project, again when the metadata change
  local stamp
  stamp=".venv/fcis-$1-$(cat pyproject.toml setup.py | cksum | cut -d' ' -f1)"
  if [ ! -e "$stamp" ]; then
    echo "installing fcis_tf[$1] into .venv; a minute or two the first time" >&2
    .venv/bin/python -m pip install -q --disable-pip-version-check -e ".[$1]" ||
      fail "pip could not install fcis_tf[$1]; if it misses a compiler or Python.h: apt-get install build-essential python3-dev"
    # It requires TensorFlow's GPU package by name, whose files would lie over those of the CPU's.
    case $1 in *test*)
      .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps \
        "tensorflow-serving-api==2.21.*" || fail "pip could not install tensorflow-serving-api"
      ;;
    esac
    rm -f .venv/fcis-"$1"-*
    touch "$stamp"
  fi
}

extra=${FCIS_EXTRA:-cpu}
case $extra in
  cpu) other=gpu ;;
  gpu) other=cpu ;;
  *) fail "FCIS_EXTRA=$extra: expected cpu or gpu" ;;
esac
[ -e .venv ] || make_venv
fits .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1 ||
  fail ".venv is incomplete or of another version than $pythons; rm -r .venv and run again"
# The packages of TensorFlow for CPU and for GPU overwrite each other's files.
compgen -G ".venv/fcis-$other,*" >/dev/null &&
  fail ".venv holds TensorFlow for the $other; rm -r .venv and run again for FCIS_EXTRA=$extra"
ensure_installed "$extra,test"
export PATH="$PWD/.venv/bin:$PATH"
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3}
