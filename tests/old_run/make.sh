#!/bin/bash
# Makes old_run.tar.xz, with the code of 980d974: bash tests/old_run/make.sh CHECKOUT
# About 8 minutes of processor time. The backbone is trained, rounded and frozen, so that its million
# weights take 0.3 MB in all four files; the heads are trained on top of it.
set -euo pipefail
PYTHONPATH=$(cd "$1" && pwd)
export PYTHONPATH
here=$(cd "$(dirname "$0")" && pwd)
cd "$(mktemp -d)"
fcis() { python -m fcis_tf "$@"; }

records() { # FOLDER TRAIN VALIDATION SEED
  fcis shapes "$1.images" --train "$2" --validation "$3" --size 96 --seed "$4"
  for split in train val; do
    fcis convert coco --images "$1.images/$split" --annotations "$1.images/$split.json" \
      --out "$1/$split"
  done
}
records many 400 30 11
records records 8 8 5

cat > base.yaml <<'END'
data: {train: many/train, validation: many/val, short_sides: [96], long_side: 96,
  validation_short_side: 96, validation_long_side: 96, mask_size: 28, max_instances: 16,
  cache: true}
model: {backbone: small, norm: group, output_stride: 8, group_size: 3, pooled_size: 9,
  rpn_channels: 16, head_channels: 32, head_init: he, anchor_sizes: [16, 28]}
proposals: {pre_nms: 300, train_count: 50, predict_count: 40}
train: {batch_size: 4, optimizer: adam, learning_rate: 3.0e-3, weight_decay: 1.0e-4,
  schedule: cosine, warmup_steps: 50, sampling: random, roi_batch: 32, roi_foreground: 0.5,
  rpn_batch: 64, steps: 500, evaluate_every: 500, checkpoint_every: 600}
predict: {mask_size: 28, max_detections: 30}
END
cat > heads.yaml <<'END'
extends: base.yaml
train: {freeze: 5, init: rounded, schedule: steps, learning_rate: 1.0e-3, warmup_steps: 0,
  steps: 250, evaluate_every: 250, checkpoint_every: 250}
END
cat > group.yaml <<'END'
extends: heads.yaml
data: {train: records/train, validation: records/val, color_jitter: 0.1, cache: false}
train: {init: heads, drops: [], batch_size: 2, ema: 0.9, log_every: 10, pictures: 0,
  deterministic: true, steps: 30, evaluate_every: 30, checkpoint_every: 30}
END
cat > batch_heads.yaml <<'END'
extends: heads.yaml
model: {norm: frozen_batch}
train: {init: batch_start, steps: 200, evaluate_every: 200}
END
cat > batch.yaml <<'END'
extends: group.yaml
model: {norm: frozen_batch}
train: {init: batch_heads, batch_size: 1, accumulate: 2, optimizer: sgd, learning_rate: 1.0e-3,
  sampling: ohem, ema: 0.0, steps: 20, evaluate_every: 20, checkpoint_every: 20}
predict: {voting: binary}
END

fcis train --config base.yaml --run trained
python "$here/make.py" round trained rounded
fcis train --config heads.yaml --run heads
fcis train --config group.yaml --run runs/group
python "$here/make.py" normalise heads batch_start
fcis train --config batch_heads.yaml --run batch_heads
fcis train --config batch.yaml --run runs/batch

mkdir -p expected
python "$here/make.py" names expected/resnet50.json
for run in group:33 batch:23; do
  name=${run%:*}
  fcis evaluate --run "runs/$name" --out "expected/$name"
  cp -r "runs/$name" "$name"
  fcis train --config "$name/config.yaml" --run "$name" "train.steps=${run#*:}" train.log_every=1
  cp "$name/metrics.jsonl" "expected/$name/resumed.jsonl"
done
fcis train --config runs/group/config.yaml --run started train.init=runs/group train.steps=1 \
  data.validation=null train.log_every=1
cp started/metrics.jsonl expected/started.jsonl
rm -r runs/*/train runs/*/validation # TensorBoard
tar --sort=name --owner=0 --group=0 --numeric-owner -c expected records runs |
  xz --lzma2=preset=9e,dict=64MiB > "$here/old_run.tar.xz"
