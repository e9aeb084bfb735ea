"""Compare an exported model with its run on real images.

python scripts/research/agree.py --run RUN --base EXPORT IMAGE_OR_FOLDER [...] [--limit 50]

Exit status 1 unless labels are the same, boxes agree to 1e-3 pixels and masks to an IoU of 0.999.
"""

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from load_test import live_answers
from PIL import Image

from fcis_tf.prediction.inputs import find_files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True, help="folder of version folders")
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("images", type=Path, nargs="+")
    options = parser.parse_args()
    files = [f for f in find_files(options.images) if f.suffix.lower() in (".jpg", ".jpeg", ".png")]
    files = files[: options.limit]
    live, ids = live_answers(options.run, options.base, files)
    version = max(int(p.name) for p in options.base.iterdir() if p.name.isdecimal())
    serve = tf.saved_model.load(str(options.base / str(version))).signatures["serving_default"]
    instances, wrong, farthest, least = 0, 0, 0.0, 1.0
    for file, wanted in zip(files, live, strict=True):
        found = {k: v[0].numpy() for k, v in serve(tf.constant([file.read_bytes()])).items()}
        count = int(found["num_detections"])
        instances += len(wanted.labels)
        classes = found["detection_classes"][:count].astype(int).tolist()
        if classes != [ids[label - 1] for label in wanted.labels]:
            print(f"{file}: labels differ", file=sys.stderr)
            wrong += 1
            continue
        sides = np.tile(found["image_size"], 2)
        away = np.abs(found["detection_boxes"][:count] * sides - wanted.boxes).max(initial=0)
        farthest = max(farthest, float(away))
        for n, mask in enumerate(wanted.masks):
            y0, x0, y1, x1 = found["detection_windows"][n]
            canvas = np.zeros_like(mask)
            if png := found["detection_masks_png_bytes"][n]:
                canvas[y0:y1, x0:x1] = np.asarray(Image.open(io.BytesIO(png))) > 0
            if (canvas | mask).any():
                least = min(least, (canvas & mask).sum() / (canvas | mask).sum())
    print(f"{len(files)} images, {instances} instances: labels differ in {wrong} images")
    print(f"boxes differ by at most {farthest:.1e} pixels, the least mask IoU is {least:.5f}")
    return int(wrong > 0 or farthest > 1e-3 or least < 0.999)


if __name__ == "__main__":
    sys.exit(main())
