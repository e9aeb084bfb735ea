#!/usr/bin/env bash
# Paper Table 3: FCIS with OHEM and backbones of different depth.
#   bash scripts/research/reproduce_table3.sh [OPTIONS] DATASET...
# The paper's seconds an image on a K40 are 0.16, 0.24 and 0.27.
set -euo pipefail
source "$(dirname "$0")/reproduce/common.sh"
read_options "$@"
source "$(dirname "$0")/../environment.sh"

for one in "${datasets[@]}"; do
  begin "$one"
  for backbone in $backbones; do
    case $backbone in
      resnet50) paper=(27.1 46.7) ;;
      resnet101) paper=(29.2 49.5) ;;
      resnet152) paper=(29.5 49.8) ;;
      *) paper=(- -) ;;
    esac
    run=depth_$backbone
    if [ "$backbone" = "$base_backbone" ]; then
      run=ohem # of Table 2
    fi
    changes=(train.sampling=ohem)
    if [ "$preset" = paper ]; then
      changes+=("train.init=keras:$backbone")
    fi
    trained "$run" "${changes[@]}" "model.backbone=$backbone"
    evaluated "$run" "$run" "${paper[@]}" "$backbone"
  done
  finish "Table 3" table3.md
done
