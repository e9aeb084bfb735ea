"""Time that serving adds to the convolutions, and the size of a REST reply.

python scripts/research/costs.py --config configs/fcis_r101_coco.yaml [--batch 8] [--rounds 3]

Random weights that give 100 detections in 600 x 1000 pixels of noise, as in `fcis benchmark`;
masks of noise compress less than those of objects. The two are timed in turn in every round.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from fcis_tf.benchmark.network import as_predicted, noise, random_network
from fcis_tf.benchmark.timing import take_turns
from fcis_tf.config import load_config
from fcis_tf.labels import Labels
from fcis_tf.model.fold import fold
from fcis_tf.serving.export.signatures import Served

sys.path.append(str(Path(__file__).parents[2]))
from tests.serving.stand_in.rest import reply


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    config = load_config(options.config, ["model.classes=80"])
    image = noise(600, 1000)
    model = fold(random_network(config, image, ops="stock"))
    served = Served(model, config, Labels.known(80).ids, max_pixels=25_000_000, upright=True)
    files = tf.constant([tf.io.encode_jpeg(image, quality=95).numpy()] * options.batch)
    pixels = as_predicted(image, config)[0]
    convolutions = tf.function(lambda x: model(x, training=False))

    def alone() -> None:
        for _ in range(options.batch):
            convolutions(pixels)

    compact = served.compact.get_concrete_function()
    work = {"served": lambda: compact(files), "convolutions": alone}
    seconds = take_turns(work, rounds=options.rounds, warm_up=1)
    ratios = seconds["served"] / seconds["convolutions"]
    found = {name: value.numpy()[:1] for name, value in compact(files[:1]).items()}
    body = reply(found, "column")
    report = {
        "served_seconds": round(float(np.median(seconds["served"])), 2),
        "convolutions_seconds": round(float(np.median(seconds["convolutions"])), 2),
        "ratio": round(float(np.median(ratios)), 3),
        "detections": int(found["num_detections"][0]),
        "reply_bytes": len(body),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
