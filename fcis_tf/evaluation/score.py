"""Scoring a COCO results file, whatever made it. TensorFlow is needed only to read records."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fcis_tf.errors import FcisError
from fcis_tf.evaluation.annotations import load_annotations
from fcis_tf.evaluation.measure import measure
from fcis_tf.evaluation.metrics import Metrics
from fcis_tf.evaluation.pictures import Fetch
from fcis_tf.evaluation.report import write_report
from fcis_tf.evaluation.results import load_results
from fcis_tf.files import write_json
from fcis_tf.labels import Labels


def score_results(
    results: Path,
    *,
    annotations: Path | None = None,
    records: str | None = None,
    images: Path | None = None,
    limit: int | None = None,
    out: Path | None = None,
    report: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Metrics:
    """The metrics of a results file.

    Args:
        results: a JSON list of COCO results.
        annotations: the ground truth as a COCO json; or
        records: as a folder of records.
        images: with `annotations`: where the image files are, for the pictures of the report.
        limit: only the first images.
        out: where ``metrics.json`` goes, if anywhere.
        report: where the page goes, if anywhere.
        progress: called with (done, total) steps.

    Raises:
        FcisError: what is wrong with the results or the ground truth.
    """
    if images and not annotations:
        raise FcisError(f"--images {images}: goes with --annotations; records hold their images")
    fetch: Fetch | None = None
    if annotations and not records:
        truth, labels = load_annotations(annotations)
        if images:
            fetch = _folder_images(images, truth)
    elif records and not annotations:
        from fcis_tf.evaluation.run import record_images

        truth, labels = _read_truth(records)
        fetch = record_images(records)
    else:
        raise FcisError(
            "--results: name the ground truth, either --annotations FILE or --records FOLDER"
        )
    found = load_results(results, truth, labels)
    if limit is not None:
        truth["images"] = truth["images"][:limit]
        kept = {image["id"] for image in truth["images"]}
        truth["annotations"] = [row for row in truth["annotations"] if row["image_id"] in kept]
        found = [row for row in found if row["image_id"] in kept]
    evaluation = measure(truth, found, labels, progress=progress)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "metrics.json", evaluation.metrics.to_dict())
    if report:
        write_report(evaluation, report, title=str(results), fetch=fetch)
    return evaluation.metrics


def _read_truth(records: str) -> tuple[dict[str, Any], Labels]:
    from fcis_tf.data.records import load_labels, read_records
    from fcis_tf.evaluation.coco import ground_truth

    labels = load_labels(records)
    return ground_truth(read_records(records), labels), labels


def _folder_images(folder: Path, truth: dict[str, Any]) -> Fetch:
    """Reads the image files of a folder, and sees that they are as large as annotated."""
    if not folder.is_dir():
        raise FcisError(f"--images {folder}: no such folder")

    def read(entry: dict[str, Any]) -> np.ndarray:
        from fcis_tf.data.images import read_image

        path = folder / str(entry.get("file_name"))
        image = read_image(path)
        if image.shape[:2] != (entry["height"], entry["width"]):
            raise FcisError(
                f"{path}: expected {entry['height']} x {entry['width']} pixels (height, width) "
                f"as in the annotations, found {image.shape[0]} x {image.shape[1]}"
            )
        return image

    return lambda places: {place: read(truth["images"][place]) for place in places}
