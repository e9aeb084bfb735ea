#!/usr/bin/env bash
# Draw a data set, convert, train, evaluate, predict and export it. Everything is written to demo/;
# a second run reuses completed steps.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

step() {  # step RESULT TITLE COMMAND...: run the command unless its result exists
  local result=$1 title=$2
  shift 2
  if [ -e "$result" ]; then
    echo "== $title: $result exists"
  else
    echo "== $title"
    "$@"
  fi
}

step demo/data/val.json "draw images" fcis shapes demo/data
for split in train val; do
  step "demo/records/$split/report.json" "convert $split" \
    fcis convert coco --images "demo/data/$split" --annotations "demo/data/$split.json" \
    --out "demo/records/$split"
done
step demo/inspect/example_007.png "draw the ground truth" \
  fcis inspect demo/records/train --out demo/inspect --config configs/shapes.yaml
step demo/run/finished "train" \
  sh -c 'fcis train --config configs/shapes.yaml --run demo/run && touch demo/run/finished'
step demo/run/evaluation/metrics.json "evaluate" \
  sh -c 'fcis evaluate --run demo/run > demo/table.txt && cat demo/table.txt'
step demo/pictures/predictions.json "draw predictions" \
  fcis predict --run demo/run --out demo/pictures --limit 16 --score-maps demo/data/val
step demo/export/1/saved_model.pb "export" fcis export --run demo/run --out demo/export/1
echo "== run the SavedModel in a fresh process, with TensorFlow alone"
python -I scripts/deploy/run_saved_model.py demo/export/1 demo/data/val/000001.jpg
echo
echo "pictures   demo/pictures/ (instances, and *_score_maps.png), ground truth in demo/inspect/"
echo "AP table   demo/table.txt, demo/run/evaluation/metrics.json"
echo "model      demo/run/best.weights.h5, SavedModel in demo/export/1"
