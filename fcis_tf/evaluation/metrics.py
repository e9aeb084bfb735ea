"""The numbers of an evaluation, as text and as JSON."""

import dataclasses
import io
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

STATISTICS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
# How an instance and a detection overlap, and what the tables call it.
KINDS = {
    "mask": "mask",
    "box": "box",
    "enclosing": "enclosing box",
    "boundary": "boundary",
}


@dataclass
class Metrics:
    """The twelve COCO numbers of each kind of overlap, and a row for every class.

    A number is -1, shown as "-", where there is nothing to measure it on. A kind that was not
    measured is empty.

    Attributes:
        mask: of the masks.
        box: of the boxes as they were detected.
        enclosing: of the boxes that enclose the masks, as the paper's mAP^b.
        boundary: of the masks' boundaries: the lesser of mask IoU and boundary IoU counts.
        voc: the paper's mAP^r by IoU threshold: "0.5", "0.7".
        per_class: name, instances, and APs named KIND_STATISTIC; in the order of the labels.
        images: how many.
        speed: "seconds_per_image" of prediction, where it was measured.
        message: what a reader has to know beside the numbers.
    """

    mask: dict[str, float]
    box: dict[str, float]
    enclosing: dict[str, float] = field(default_factory=dict)
    boundary: dict[str, float] = field(default_factory=dict)
    voc: dict[str, float] = field(default_factory=dict)
    per_class: list[dict[str, Any]] = field(default_factory=list)
    images: int = 0
    speed: dict[str, float] = field(default_factory=dict)
    message: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All of it, as ``metrics.json`` holds it."""
        return dataclasses.asdict(self)

    def kinds(self) -> dict[str, dict[str, float]]:
        """The kinds that were measured, by what the tables call them."""
        return {title: getattr(self, kind) for kind, title in KINDS.items() if getattr(self, kind)}

    def table(self, most: int = 100) -> str:
        """The numbers as text, with at most so many classes."""
        total = Table("", *STATISTICS, title=f"{self.images} images")
        for title, values in self.kinds().items():
            total.add_row(title, *(show(values[name]) for name in STATISTICS))
        columns = {"mask AP": "mask_AP", "mask AP50": "mask_AP50", "box AP": "box_AP"}
        columns = {
            title: key for title, key in columns.items() if key in (self.per_class or [{}])[0]
        }
        classes = Table("class", "instances", *columns)
        for row in self.per_class[:most]:
            numbers = (show(row[key]) for key in columns.values())
            classes.add_row(row["name"], str(row["instances"]), *numbers)
        console = Console(file=io.StringIO(), width=132, color_system=None)
        console.print(total)
        console.print(classes)
        lines = [console.file.getvalue().rstrip()]  # type: ignore[attr-defined]
        lines += [f"mAP^r at IoU {at}: {show(value)}" for at, value in self.voc.items()]
        if self.speed:
            lines.append(f"{self.speed['seconds_per_image']:.3f} s per image")
        return "\n".join([*lines, self.message] if self.message else lines)


def show(value: float) -> str:
    """A metric with three digits, "-" if there was nothing to measure."""
    return "-" if value < 0 else f"{value:.3f}"
