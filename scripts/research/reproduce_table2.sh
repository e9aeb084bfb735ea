#!/usr/bin/env bash
# Paper Table 2, the rows of FCIS: random sampling of ROIs against hard examples (OHEM).
#   bash scripts/research/reproduce_table2.sh [OPTIONS] DATASET...
# The paper's numbers by size are, for OHEM, 7.1, 31.3 and 50.0 (small, medium, large).
set -euo pipefail
source "$(dirname "$0")/reproduce/common.sh"
read_options "$@"
source "$(dirname "$0")/../environment.sh"

for one in "${datasets[@]}"; do
  begin "$one"
  trained random train.sampling=random
  evaluated random random 28.8 48.7 "FCIS, random sampling"
  trained ohem train.sampling=ohem
  evaluated ohem ohem 29.2 49.5 "FCIS, OHEM"
  finish "Table 2" table2.md
done
