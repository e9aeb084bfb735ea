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
#   PEERS_TORCH='torch==2.13.0+cpu torchvision==0.28.0+cpu' bash scripts/research/benchmark_peers.sh
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
source "$(dirname "$0")/../environment.sh"
source scripts/research/peer_environment.sh

# ===: the index's own build, the one that torchvision was compiled with. A local build such as
# 2.13.0+cpu would satisfy == too, and torchvision's operators would not load next to it.
torch=${PEERS_TORCH:-torch===2.13.0 torchvision==0.28.0}

for peer in $peers; do
  case $peer in
    torchvision)
      if begin_peer torchvision "$torch"; then
        into_peer numpy $torch
        touch "$stamp"
      fi ;;
    garden) ensure_garden ;;
  esac
done
exec python scripts/research/peers/compare.py --environments "$folder" ${options[@]+"${options[@]}"}
