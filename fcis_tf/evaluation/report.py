"""An evaluation as one HTML page that needs nothing else: no network, no file beside it."""

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fcis_tf.evaluation import tide
from fcis_tf.evaluation.charts import Line, chart, sparkline
from fcis_tf.evaluation.coco import AveragePrecision
from fcis_tf.evaluation.measure import Evaluation
from fcis_tf.evaluation.metrics import STATISTICS
from fcis_tf.evaluation.pictures import Fetch, best_and_worst
from fcis_tf.files import write_whole

PAGE = "index.html"
MOST_PICTURES = 6  # of the best, and of the worst
MOST_CONFUSIONS = 10
SIZES = {"small": "up to 32 x 32 pixels", "medium": "up to 96 x 96", "large": "above 96 x 96"}
SIDES = (32**2, 96**2)  # areas that part them
RECALLS = np.linspace(0, 1, 101)
# IoU thresholds from loose to strict, light to dark.
STEPS = {0: "#8fc1e3", 2: "#5a9fd4", 4: "#2f7ab8", 6: "#1b5590", 8: "#0d2f5c"}


def write_report(
    evaluation: Evaluation, folder: Path, *, title: str, fetch: Fetch | None = None
) -> Path:
    """Write the page; returns its path ``folder/index.html``.

    Args:
        evaluation: all that was measured.
        folder: made if it does not exist.
        title: what was evaluated.
        fetch: reads the images for the pictures; None leaves them out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    best, worst = best_and_worst(evaluation, fetch, MOST_PICTURES) if fetch else ([], [])
    loader = FileSystemLoader(Path(__file__).parent)
    templates = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    templates.filters["percent"] = _percent
    metrics, operating = evaluation.metrics, evaluation.operating
    instances, detections = evaluation.instances, evaluation.detections
    page = templates.get_template("report.html").render(
        title=title,
        today=date.today().isoformat(),
        metrics=metrics,
        statistics=STATISTICS,
        headlines=_headlines(evaluation),
        facts={
            "images": metrics.images,
            "instances": int(np.count_nonzero(~instances.crowd)),
            "crowd regions": int(np.count_nonzero(instances.crowd)),
            "detections": len(detections.rows),
            "classes": len(evaluation.labels),
        },
        curves=_curves(evaluation),
        thresholds=_thresholds(evaluation),
        operating=operating,
        errors=_errors(evaluation),
        ap50=evaluation.errors.precision,
        confusions=_confusions(evaluation),
        sizes=_sizes(evaluation),
        classes=_classes(evaluation),
        pictures={"worst": worst, "best": best},
        reason="" if fetch else "The images were not at hand: name their folder with --images.",
    )
    write_whole(folder / PAGE, page)
    return folder / PAGE


def main_kind(evaluation: Evaluation) -> str:
    """Masks where there are any: what curves, errors and pictures are about."""
    return "mask" if "mask" in evaluation.matched else "box"


def _percent(value: float) -> str:
    return "-" if value < 0 else f"{100 * value:.1f}"


def _headlines(evaluation: Evaluation) -> list[tuple[str, str]]:
    metrics = evaluation.metrics
    found = [
        ("mask AP", metrics.mask.get("AP")),
        ("mask AP50", metrics.mask.get("AP50")),
        ("box AP", metrics.box.get("AP")),
        ("boundary AP", metrics.boundary.get("AP")),
        ("mAPʳ 0.5", metrics.voc.get("0.5")),
        ("mAPʳ 0.7", metrics.voc.get("0.7")),
        ("best F1", evaluation.operating.f1),
    ]
    tiles = [(name, _percent(value)) for name, value in found if value is not None]
    if metrics.speed:
        tiles.append(("seconds per image", f"{metrics.speed['seconds_per_image']:.2g}"))
    return tiles


def _curves(evaluation: Evaluation) -> Any:
    """Precision over recall, the mean over classes, by IoU threshold."""
    matched = evaluation.matched[main_kind(evaluation)]
    lines = []
    for step, color in STEPS.items():
        precision = matched.precision[step, :, :, 0]
        precision = precision[:, (precision > -1).all(0)].mean(1)
        name = f"IoU {0.5 + 0.05 * step:.1f}: AP {_percent(precision.mean())}"
        lines.append(Line(name, color, np.stack([RECALLS, precision], 1)))
    return chart(lines, "recall", "precision")


def _thresholds(evaluation: Evaluation) -> Any:
    """Precision, recall and F1 over the score threshold."""
    curve = evaluation.operating.curve
    low, high = curve[0, 0], curve[-1, 0]
    across = (curve[:, 0] - low) / (high - low)
    lines = []
    for column, name, color in (
        (1, "precision", "#0072b2"),
        (2, "recall", "#d55e00"),
        (3, "F1", "#222"),
    ):
        known = curve[:, column] >= 0
        lines.append(Line(name, color, np.stack([across, curve[:, column]], 1)[known]))
    name = "score threshold" + ("" if (low, high) == (0, 1) else f", from {low:.3g} to {high:.3g}")
    mark = (evaluation.operating.threshold - low) / (high - low)
    return chart(lines, name, "precision, recall, F1", mark=mark)


def _errors(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row for every kind of error, the dearest first, and two sums."""
    errors = evaluation.errors
    rows: list[dict[str, Any]] = [
        {"name": name, "meaning": meaning, "sums": False}
        | {"count": errors.counts[name], "cost": errors.cost[name]}
        for name, meaning in tide.KINDS.values()
    ]
    rows.sort(key=lambda row: -row["cost"])
    for name, meaning in (
        (tide.ALL_FALSE, "every wrong detection, of any of the kinds"),
        (tide.ALL_MISSED, "every instance that no detection matches"),
    ):
        rows.append(
            {"name": name, "meaning": meaning, "sums": True}
            | {"count": errors.counts[name], "cost": errors.cost[name]}
        )
    return rows


def _confusions(evaluation: Evaluation) -> list[tuple[str, str, int]]:
    """The most frequent (detected class, true class, count) at the right place."""
    errors, names = evaluation.errors, evaluation.labels.names
    wrong = np.flatnonzero(errors.kind == tide.CLASS)
    detected = evaluation.detections.label[wrong]
    true = evaluation.instances.label[errors.instance[wrong]]
    often = Counter(zip(detected.tolist(), true.tolist(), strict=True))
    return [(names[d - 1], names[t - 1], n) for (d, t), n in often.most_common(MOST_CONFUSIONS)]


def _sizes(evaluation: Evaluation) -> list[dict[str, Any]]:
    instances = evaluation.instances
    areas = np.array([row["area"] for row in instances.rows])[~instances.crowd]
    group = np.digitize(areas, SIDES)
    return [
        {"name": name, "meaning": meaning, "instances": int(np.count_nonzero(group == n))}
        | {
            title: {"AP": values[f"AP{name[0]}"], "AR": values[f"AR{name[0]}"]}
            for title, values in evaluation.metrics.kinds().items()
        }
        for n, (name, meaning) in enumerate(SIZES.items())
    ]


def _classes(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The rows of the metrics, each with its curve at IoU 0.5."""
    matched = evaluation.matched[main_kind(evaluation)]
    return [
        row | {"curve": _sparkline(matched, label)}
        for label, row in enumerate(evaluation.metrics.per_class)
    ]


def _sparkline(matched: AveragePrecision, label: int) -> Any:
    precision = matched.precision[0, ::4, label, 0]
    if (precision < 0).any():
        return ""
    return sparkline(np.stack([RECALLS[::4], precision], 1), "precision over recall at IoU 0.5")
