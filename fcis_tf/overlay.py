"""What was predicted, drawn over its image."""

from collections.abc import Sequence

import numpy as np

from fcis_tf import drawing
from fcis_tf.instances import Segment
from fcis_tf.labels import Labels


def draw_segments(image: np.ndarray, segments: Sequence[Segment], labels: Labels) -> np.ndarray:
    """`drawing.draw_cut_outs` of the segments of an image (H, W, 3) uint8, with their classes."""
    return drawing.draw_cut_outs(
        image,
        [one.box for one in segments],
        [(one.corner, one.mask) for one in segments],
        [labels.names[one.label - 1] for one in segments],
        [one.score for one in segments],
    )
