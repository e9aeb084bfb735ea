"""Load an exported model with TensorFlow alone and print the instances in image files.

python scripts/deploy/run_saved_model.py EXPORT/1 IMAGE [IMAGE ...]
"""

import sys
from pathlib import Path

# The model must not depend on these packages: importing them fails from here on.
sys.modules |= dict.fromkeys(("keras", "tf_keras", "fcis_tf"))

import tensorflow as tf  # noqa: E402


def main(model: str, images: list[str]) -> None:
    serve = tf.saved_model.load(model).signatures["serving_default"]
    found = serve(inputs=tf.constant([Path(image).read_bytes() for image in images]))
    for i, image in enumerate(images):
        count = int(found["num_detections"][i])
        print(f"{image}: {count} detections")
        for n in range(min(count, 5)):
            box = ", ".join(f"{v:.3f}" for v in found["detection_boxes"][i, n].numpy())
            label = int(found["detection_classes"][i, n])
            score = float(found["detection_scores"][i, n])
            print(f"  class {label}  score {score:.2f}  box (y0, x0, y1, x1) {box}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
