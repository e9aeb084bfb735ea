"""The image as the network takes it: `lib/utils/image.py`, `resize` and `transform`."""

import cv2
import numpy as np

MEANS = np.array([123.15, 115.90, 103.06], np.float32)  # R, G, B


def image_input(image, short_side, long_side):
    """(H, W, 3) float32 RGB less the means, and (height, width, factor)."""
    shorter, longer = min(image.shape[:2]), max(image.shape[:2])
    factor = short_side / shorter
    if np.round(factor * longer) > long_side:
        factor = long_side / longer
    resized = cv2.resize(image, None, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    return resized.astype(np.float32) - MEANS, (*resized.shape[:2], factor)
