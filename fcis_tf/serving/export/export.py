"""Export of a run: a SavedModel of stock TensorFlow operations with the whole inference."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from fcis_tf.config import Config
from fcis_tf.errors import FcisError
from fcis_tf.model.fold import fold
from fcis_tf.prediction.load import load_run
from fcis_tf.serving.export.ops_check import check_operations
from fcis_tf.serving.export.package import describe, write_batching, write_extras
from fcis_tf.serving.export.signatures import Served

MAX_PIXELS = 25_000_000


def export(
    run: str | Path,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    max_pixels: int | None = None,
    upright: bool = True,
) -> list[str]:
    """Write the SavedModel of a run into a version folder, such as ``export/1``.

    Precision, limits and thresholds are those of the configuration (``predict.*``; input size
    ``data.validation_*``). ``assets.extra`` contains labels, configuration, model card and warm-up
    requests; ``batching_parameters.txt`` is written beside the version folder. The folder has a
    temporary name until it is complete.

    Args:
        run: run directory.
        out: version folder; its name must be a number, as TensorFlow Serving requires.
        overrides: of the configuration, as "section.key=value".
        max_pixels: image files with more pixels are refused before they are decoded; by default
            MAX_PIXELS, counted after enlarging by ``data.validation_factor``.
        upright: rotate and mirror JPEGs according to their EXIF orientation.

    Returns:
        The operations of its graph.

    Raises:
        FcisError: not a run, `out` exists or is not a number, or the configuration has scales,
            tiles or an ensemble, which do not fit in one graph.
    """
    run, out = Path(run), Path(out)
    if out.exists():
        raise FcisError(f"{out}: exists; export to another version number")
    if not (out.name.isascii() and out.name.isdecimal()):
        raise FcisError(
            f"{out}: TensorFlow Serving takes version folders only; name it {out}/1, for example"
        )
    config, labels, model = load_run(run, overrides, ops="stock")
    _refuse_unfit(config)
    if max_pixels is None:
        max_pixels = int(MAX_PIXELS / max(config.data.validation_factor or 1.0, 1.0) ** 2)
    served = Served(fold(model), config, labels.ids, max_pixels=max_pixels, upright=upright)
    partial = out.with_name(f"partial.{out.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        tf.saved_model.save(
            served,
            str(partial),
            signatures={
                "serving_default": served.image_bytes,
                "compact": served.compact,
                "images": served.images,
            },
        )
        operations = check_operations(partial)
        card = describe(config, max_pixels=max_pixels, upright=upright)
        write_extras(partial, config, labels, _metrics(run), card)
        write_batching(out.parent)
        partial.rename(out)
    except (OSError, tf.errors.OpError) as fault:
        text = getattr(fault, "strerror", None) or " ".join(str(fault).split())[:160]
        raise FcisError(f"{out}: cannot write the SavedModel: {text}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return operations


def _refuse_unfit(config: Config) -> None:
    settings = config.predict
    kept = {"scales": settings.scales, "tile": settings.tile, "ensemble": settings.ensemble}
    for key, value in kept.items():
        if value:
            off = "[]" if key == "ensemble" else "null"
            raise FcisError(
                f"predict.{key}: an exported model is one network applied once to the whole image; "
                f"add predict.{key}={off}"
            )


def _metrics(run: Path) -> dict[str, Any] | None:
    """The validation metrics of a run, or None for imported weights."""
    path = run / "metrics.json"
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise FcisError(f"{path}: not JSON; delete it or evaluate again") from None
