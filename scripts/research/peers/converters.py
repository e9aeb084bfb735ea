"""Time our converter and Model Garden's in turn, on the same images, for `test_garden.sh`.

Both run in this process and in those they start: loading TensorFlow counts for neither with one
process; with more, ours loads it in each of them, which counts. A ratio is that of one round.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SHARDS = 8


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--processes", type=int, action="append")
    return parser.parse_args()


def repeat(source: Path, count: int, target: Path) -> None:
    """Write a COCO json of `count` images: those of `source` under new ids, as often as needed."""
    content = json.loads(source.read_text())
    images, annotations = [], []
    by_image: dict[int, list[dict]] = {}
    for annotation in content["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    for number in range(1, count + 1):
        image = content["images"][(number - 1) % len(content["images"])]
        images.append(image | {"id": number})
        for annotation in by_image.get(image["id"], []):
            annotations.append(annotation | {"id": len(annotations) + 1, "image_id": number})
    target.write_text(json.dumps(content | {"images": images, "annotations": annotations}))


def timed(convert: Callable[[Path], None], images: int, out: Path) -> tuple[float, int]:
    """Images per second of one conversion, and the bytes of its records."""
    out.mkdir()
    start = time.perf_counter()
    convert(out)
    seconds = time.perf_counter() - start
    size = sum(file.stat().st_size for file in out.glob("*.tfrecord"))
    shutil.rmtree(out)
    return images / seconds, size


def main() -> None:
    """Measure and print the table."""
    given = arguments()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from absl import flags, logging
    from official.vision.data import create_coco_tf_record as garden

    from fcis_tf.data.convert.converter import convert

    coco = Path(os.environ["COCO"])
    logging.set_verbosity(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        annotations = Path(folder) / "annotations.json"
        repeat(coco / "train.json", given.images, annotations)
        flags.FLAGS(["converters", f"--image_dir={coco / 'train'}", "--include_masks"])

        def theirs(processes: int) -> Callable[[Path], None]:
            def theirs_once(out: Path) -> None:
                # For one process their pool is left out too: 0 is their word for that.
                flags.FLAGS.num_processes = processes if processes > 1 else 0
                garden._create_tf_record_from_coco_annotations(
                    str(annotations),
                    flags.FLAGS.image_dir,
                    str(out / "train"),
                    SHARDS,
                    str(annotations),
                    include_masks=True,
                )

            return theirs_once

        def ours(processes: int) -> Callable[[Path], None]:
            def ours_once(out: Path) -> None:
                convert(
                    "coco", coco / "train", out,
                    annotations=annotations, shards=SHARDS, processes=processes,
                )  # fmt: skip

            return ours_once

        print(f"{given.images} images, {given.rounds} rounds in turn; medians (quartiles)")
        for processes in given.processes or (1, 2):
            rates: dict[str, list[float]] = {"Model Garden": [], "fcis_tf": []}
            sizes = {}
            for number in range(given.rounds + 1):  # the first warms up
                for name, one in (("Model Garden", theirs), ("fcis_tf", ours)):
                    rate, sizes[name] = timed(one(processes), given.images, Path(folder) / "out")
                    if number:
                        rates[name].append(rate)
            ratios = [a / b for b, a in zip(*rates.values(), strict=True)]
            print(f"{processes} processes")
            for name, values in rates.items():
                size = sizes[name] / given.images / 1024
                print(f"  {name:14} {summary(values, 1)} images/s, {size:.0f} KiB each")
            print(f"  ratio          {summary(ratios, 2)}")


def summary(values: list[float], digits: int) -> str:
    """Median and quartiles."""
    low, median, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    )
    return f"{median:.{digits}f} ({low:.{digits}f} - {high:.{digits}f})"


if __name__ == "__main__":
    main()
