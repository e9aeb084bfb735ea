#!/usr/bin/env bash
# Exchanges records with TensorFlow's Model Garden: ours through its decoder, those of its converter
# through our reader and training. Then times both converters in turn, on the same images with the
# same number of processes, and prints the ratio.
#   COCO=DIR       folder with train/ and train.json of COCO's format; without it all is skipped
#   --rounds N     how often each converter is timed (default 5); 0 leaves that out
#   --images N     images of a timed conversion, the set's own several times over (default 400)
#   --processes N  of either converter; may be repeated (default 1 and 2)
# Model Garden gets an environment of its own, .venv-garden, made once (about 2 GB);
# PEERS_ENVIRONMENTS names another folder for it than the repository.
set -euo pipefail
caller=$PWD
rounds=5
options=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit ;;
    --rounds | --images | --processes)
      case ${2:-} in '' | *[!0-9]*) echo "error: $1: expected a number" >&2; exit 1 ;; esac
      if [ "$1" = --rounds ]; then rounds=$2; else options+=("$1" "$2"); fi
      shift 2 ;;
    *) echo "error: $1: no such option; see --help" >&2; exit 1 ;;
  esac
done
if [ -z "${COCO:-}" ]; then
  echo "skipped: COCO names no folder with train/ and train.json" >&2
  exit
fi
case $COCO in /*) ;; *) COCO=$caller/$COCO ;; esac
export COCO
source "$(dirname "$0")/../environment.sh"
source scripts/research/peer_environment.sh
ensure_garden
export PATH="$folder/.venv-garden/bin:$PATH"
# Warnings are Model Garden's own.
python -m pytest -W default -rs tests/data/test_garden.py
[ "$rounds" = 0 ] || python scripts/research/peers/converters.py --rounds "$rounds" ${options[@]+"${options[@]}"}
