"""The list of classes: category ids and names, and the network's class numbers 1..C."""

import json
from dataclasses import dataclass
from pathlib import Path

from fcis_tf.errors import FcisError
from fcis_tf.files import write_whole

COCO_IDS = tuple(i for i in range(1, 91) if i not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
COCO_NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat",
    "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack",
    "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball",
    "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket",
    "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair",
    "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse",
    "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
VOC_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """Category ids in ascending order with their names; class i of the network is entry i - 1.

    Ids may have gaps (COCO has 80 of them between 1 and 90). Class 0 is background.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    @classmethod
    def from_categories(cls, categories: list[dict]) -> "Labels":
        """From COCO's ``categories`` list of ``{"id", "name"}``."""
        rows = sorted((int(row["id"]), str(row["name"])) for row in categories)
        ids = [row[0] for row in rows]
        if len(set(ids)) != len(ids):
            twice = sorted({i for i in ids if ids.count(i) > 1})
            raise FcisError(f"category ids must be unique, found twice: {twice}")
        return cls(tuple(ids), tuple(row[1] for row in rows))

    @classmethod
    def load(cls, path: str | Path) -> "Labels":
        """From ``labels.json`` or from any COCO json that has a ``categories`` list."""
        try:
            content = json.loads(Path(path).read_text())
            rows = content["categories"] if isinstance(content, dict) else content
            return cls.from_categories(rows)
        except FileNotFoundError:
            raise FcisError(f"{path}: no such label file") from None
        except (ValueError, KeyError, TypeError) as fault:
            raise FcisError(
                f'{path}: expected a list of {{"id", "name"}} or a COCO json with "categories", '
                f"found {type(fault).__name__}: {fault}"
            ) from None

    @classmethod
    def known(cls, count: int | None) -> "Labels":
        """The classes of COCO (80, or no number) or of Pascal VOC (20).

        Raises:
            FcisError: another number.
        """
        if count in (None, 80):
            return cls(COCO_IDS, COCO_NAMES)
        if count == 20:
            return cls(tuple(range(1, 21)), VOC_NAMES)
        raise FcisError(f"labels: the weights have {count} classes; name them with --labels FILE")

    def save(self, path: str | Path) -> None:
        rows = [{"id": i, "name": n} for i, n in zip(self.ids, self.names, strict=True)]
        write_whole(Path(path), json.dumps(rows, indent=1) + "\n")

    def __len__(self) -> int:
        return len(self.ids)
