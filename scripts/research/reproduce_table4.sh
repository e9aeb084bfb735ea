#!/usr/bin/env bash
# Paper Table 4: multi-scale test, horizontal flip, multi-scale training and an ensemble, one by one.
#   bash scripts/research/reproduce_table4.sh [OPTIONS] DATASET...
set -euo pipefail
source "$(dirname "$0")/reproduce/common.sh"
read_options "$@"
source "$(dirname "$0")/../environment.sh"

for one in "${datasets[@]}"; do
  begin "$one"
  # shellcheck disable=SC2206  # several words each
  test=($scales) flip=($scales predict.flip=true)
  trained ohem train.sampling=ohem
  evaluated ohem ohem 29.2 49.5 "baseline"
  evaluated scales ohem 32.0 51.9 "+ multi-scale test" "${test[@]}"
  evaluated flip ohem 32.7 52.7 "+ horizontal flip" "${flip[@]}"
  # shellcheck disable=SC2086
  trained multiscale train.sampling=ohem $training
  evaluated multiscale multiscale 33.6 54.5 "+ multi-scale training" "${flip[@]}"
  others=()
  for ((member = 2; member <= members; member++)); do
    # shellcheck disable=SC2086
    trained "member$member" train.sampling=ohem $training "train.seed=$((100 + member))"
    others+=("$work/runs/member$member")
  done
  ensemble="predict.ensemble=[$(IFS=,; echo "${others[*]-}")]"
  evaluated "ensemble$members" multiscale 37.6 59.9 "+ ensemble of $members" "${flip[@]}" "$ensemble"
  finish "Table 4" table4.md
done
