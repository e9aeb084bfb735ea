"""The result of prediction: the instances of one image.

Arrays, files, tiles, videos and servers all give `Instances`. Inside the graph the same thing is
`structures.Detections`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fcis_tf import drawing
from fcis_tf.cutouts import CutOut
from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels

MOST_NUMBERED = 65535  # instances that a 16-bit label map can number


@dataclass(frozen=True, eq=False)
class Instances:
    """What was found in one image, best first, in pixels of that image.

    Each mask is kept as a cut-out: memory and time depend on the size of the instances, not on
    that of the image.

    Args:
        height: of the image.
        width: of the image.
        boxes: (n, 4) float32 (y0, x0, y1, x1), half-open, tight around the masks.
        labels: (n,) int32 class numbers in 1..C.
        scores: (n,) float32 in 0..1.
        cutouts: n masks, each in a window of its own.
        classes: the C classes: names and category ids.
        image: (H, W, 3) uint8 RGB, if it is kept.

    Raises:
        FcisError: a class number that `classes` does not have.
    """

    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    cutouts: tuple[CutOut, ...]
    classes: Labels
    image: np.ndarray | None = None

    def __post_init__(self) -> None:
        strange = [int(label) for label in self.labels if not 1 <= label <= len(self.classes)]
        if strange:
            raise FcisError(
                f"expected class numbers in 1..{len(self.classes)}, found {strange[0]}; "
                "the model and the labels do not belong together"
            )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Any) -> "Instances":
        """Some of the instances, by a slice, a list of numbers or n truth values."""
        places = np.atleast_1d(np.arange(len(self))[index])
        return replace(
            self,
            boxes=self.boxes[places],
            labels=self.labels[places],
            scores=self.scores[places],
            cutouts=tuple(self.cutouts[i] for i in places),
        )

    def above(self, score: float) -> "Instances":
        """Those with at least this score."""
        return self[self.scores >= score]

    @property
    def names(self) -> list[str]:
        """The n names of the classes."""
        return [self.classes.names[label - 1] for label in self.labels]

    @property
    def category_ids(self) -> list[int]:
        """The n category ids of the classes, as in the labels and in COCO files."""
        return [self.classes.ids[label - 1] for label in self.labels]

    @property
    def masks(self) -> np.ndarray:
        """(n, H, W) bool, made anew at each access: n times the size of the image."""
        whole = (0, 0, self.height, self.width)
        masks = [cutout.inside(whole) for cutout in self.cutouts]
        return np.array(masks, bool).reshape(-1, self.height, self.width)

    def areas(self) -> np.ndarray:
        """(n,) int64 numbers of pixels inside the masks."""
        return np.array([cutout.area for cutout in self.cutouts], np.int64)

    def polygons(self) -> list[list[np.ndarray]]:
        """For each instance the outlines of its parts, (m, 2) float64 (x, y); see `CutOut`."""
        return [cutout.polygons() for cutout in self.cutouts]

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """COCO results: a dictionary with image_id, category_id, bbox, score and RLE for each."""
        columns = zip(
            self.category_ids, self.boxes.tolist(), self.scores.tolist(), self.cutouts, strict=True
        )
        return [
            {
                "image_id": image_id,
                "category_id": category,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": score,
                "segmentation": cutout.to_rle(self.height, self.width),
            }
            for category, (y0, x0, y1, x1), score, cutout in columns
        ]

    def label_map(self) -> np.ndarray:
        """(H, W) uint16: the number of each pixel's instance, from 1, best first; 0 is background.

        Where instances overlap the better one counts.

        Raises:
            FcisError: there are more than 65,535.
        """
        if len(self) > MOST_NUMBERED:
            raise FcisError(
                f"label map: expected at most {MOST_NUMBERED} instances, found {len(self)}; "
                "raise the least score"
            )
        numbers = np.zeros((self.height, self.width), np.uint16)
        for number, cutout in reversed(list(enumerate(self.cutouts, start=1))):
            y0, x0, y1, x1 = cutout.window
            numbers[y0:y1, x0:x1][cutout.mask] = number
        return numbers

    def draw(self, image: np.ndarray | None = None) -> Image.Image:
        """Masks, boxes, names and scores over the image; small images are enlarged.

        Args:
            image: (H, W, 3) uint8 RGB; by default the one that was predicted.

        Raises:
            FcisError: no image is kept, or one of another size is given.
        """
        image = self.image if image is None else image
        if image is None:
            raise FcisError("draw: these instances hold no image; pass it as draw(image)")
        if image.shape[:2] != (self.height, self.width):
            raise FcisError(
                f"draw: expected an image of {self.height} x {self.width} pixels (height, width), "
                f"found {image.shape[0]} x {image.shape[1]}"
            )
        picture = drawing.draw_instances(image, self.boxes, self.cutouts, self.names, self.scores)
        return Image.fromarray(picture)

    def save(self, path: str | Path) -> None:
        """Write `draw` to a file of the kind its suffix names; it appears only when it is whole.

        Raises:
            FcisError: as `draw`, or a suffix that Pillow does not know.
        """
        path = Path(path)
        kind = Image.registered_extensions().get(path.suffix.lower())
        if kind is None:
            raise FcisError(f"{path}: expected a name that ends in .png or .jpg")
        drawing.save_image(path, self.draw(), kind)

    def moved(self, top: int, left: int, height: int, width: int) -> "Instances":
        """The same in a larger image, of which this one begins at row `top` and column `left`."""
        return replace(
            self,
            height=height,
            width=width,
            boxes=self.boxes + np.array([top, left, top, left], np.float32),
            cutouts=tuple(cutout.moved(top, left) for cutout in self.cutouts),
            image=None,
        )


def concatenate(parts: Sequence[Instances]) -> Instances:
    """The instances of several results for one image, one after another; `parts` is not empty."""
    return replace(
        parts[0],
        boxes=np.concatenate([part.boxes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        cutouts=tuple(cutout for part in parts for cutout in part.cutouts),
    )
