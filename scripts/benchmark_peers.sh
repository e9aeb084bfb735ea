#!/usr/bin/env bash
# Times whole inference of FCIS and of Mask R-CNN in torchvision and TensorFlow's Model Garden, in
# turn on one core, and prints the ratios ours / peer.
#   --rounds N                   how often each model is timed (default 5)
#   --only torchvision|garden    leave the other peer out
#   --json FILE                  also write machine, versions and all times there
# The peers get environments of their own, .venv-torchvision and .venv-garden, made once (about 5 GB
# and 2 GB); PEERS_ENVIRONMENTS names another folder for them than the repository. A peer's
# environment is not needed, and not made, when --only leaves it out.
# PEERS_TORCH names other builds of torch and torchvision, for example those without CUDA:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu \
#   PEERS_TORCH='torch==2.13.0+cpu torchvision==0.28.0+cpu' bash scripts/benchmark_peers.sh
set -euo pipefail
caller=$PWD
peers="torchvision garden"
options=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit ;;
    --rounds | --only | --json)
      [ $# -ge 2 ] || { echo "error: $1 needs a value; see --help" >&2; exit 1; }
      value=$2
      case $1 in
        --rounds) case $value in '' | *[!0-9]* | 0*)
          echo "error: --rounds $value: expected a number from 1" >&2; exit 1 ;; esac ;;
        --only) case $value in torchvision | garden) peers=$value ;; *)
          echo "error: --only $value: expected torchvision or garden" >&2; exit 1 ;; esac ;;
        --json) case $value in /*) ;; *) value=$caller/$value ;; esac ;;
      esac
      options+=("$1" "$value")
      shift 2 ;;
    *) echo "error: $1: no such option; see --help" >&2; exit 1 ;;
  esac
done
folder=${PEERS_ENVIRONMENTS:-}
case $folder in '' | /*) ;; *) folder=$caller/$folder ;; esac
source "$(dirname "$0")/environment.sh"
folder=${folder:-$PWD}

# ===: the index's own build, the one that torchvision was compiled with. A local build such as
# 2.13.0+cpu would satisfy == too, and torchvision's operators would not load next to it.
torch=${PEERS_TORCH:-torch===2.13.0 torchvision==0.28.0}
# The package asks for a hundred others, most of them for text, hubs and cloud storage; these are
# what its Mask R-CNN imports. What asks for a second TensorFlow is taken without dependencies.
garden_alone="tf-models-official==2.20.* tf_keras==2.20.* tensorflow-hub==0.16.*"
garden="tensorflow-cpu==2.20.* gin-config immutabledict matplotlib numpy<3 opencv-python-headless"
garden="$garden pycocotools pyyaml scipy setuptools<81 tensorflow-datasets"

begin_peer() {  # begin_peer NAME REQUIREMENTS: true if its environment is still to be filled
  environment=$folder/.venv-$1
  stamp=$environment/peer-$(echo "$2" | cksum | cut -d' ' -f1)
  [ ! -e "$stamp" ] || return 1
  echo "installing $1 into $environment; some minutes, once" >&2
  mkdir -p "$folder" && python -m venv --clear "$environment" ||
    fail "$environment could not be made; name a folder to write to in PEERS_ENVIRONMENTS"
  echo '*' >"$environment/.gitignore"
}

into_peer() {  # into_peer ARGUMENTS: pip install
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$@" ||
    fail "pip could not install $*; look at the lines above, or leave that peer out with --only"
}

set -f  # the versions have stars
for peer in $peers; do
  case $peer in
    torchvision)
      if begin_peer torchvision "$torch"; then
        into_peer numpy $torch
        touch "$stamp"
      fi ;;
    garden)
      if begin_peer garden "$garden_alone $garden"; then
        into_peer $garden
        into_peer --no-deps $garden_alone
        touch "$stamp"
      fi ;;
  esac
done
set +f
exec python scripts/peers/compare.py --environments "$folder" ${options[@]+"${options[@]}"}
