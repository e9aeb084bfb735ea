"""The named tensors that pass between the parts, and the letters their shapes are written with.

Shape letters
    B images of a batch, H x W network input, Hf x Wf feature cells, A anchors of an image,
    N proposals, S sampled ROIs, R ROIs of the whole batch, G ground-truth slots, D detections,
    C foreground classes, K = C + 1, k group size (7), p pooled size (21), M mask side.

Conventions
    Boxes are ``(y0, x0, y1, x1)``, float32, half-open. Inside the model they are pixels of the
    network input; in everything a user sees they are pixels of the original image.
    Class 0 is background. Side 0 is outside, side 1 is inside. Tensors are NHWC.
    Shapes are static; what is absent is marked by ``valid`` or by label -1, never by coordinates.

The dictionaries at the tf.data boundary
    example: image (H0, W0, 3) uint8, boxes (G, 4), labels (G,) int32 in 1..C,
        masks (G, M, M) uint8, coverage 0..255 in the frame of each box, crowd (G,) bool,
        image_id () string.
    batch: image (B, H, W, 3) float32, RGB less the channel means and zero in the padding,
        image_size (B, 2) float32 height and width without padding, scale (B,) float32 network
        pixels per original pixel, boxes (B, G, 4), labels (B, G) int32 with -1 for padding,
        masks (B, G, M, M) uint8, or (B, G, H, W) float32 of whole images with
        ``data.resize: released``, image_id (B,) string, original_size (B, 2) int32 height and width
        of the image file, seed (B, 2) int32, a different pair for every draw of every image.
"""

from typing import Any, NamedTuple

import numpy as np

# RGB means that are subtracted from an image; there is no scaling (`pixel_means` of the released
# configurations, in RGB order).
PIXEL_MEANS = np.array([123.15, 115.90, 103.06], np.float32)

Tensor = Any  # tf.Tensor; TensorFlow ships no types


class Rpn(NamedTuple):
    """What the region proposal network says of every anchor."""

    logits: Tensor  # (B, A, 2) background, object
    deltas: Tensor  # (B, A, 4) dy, dx, dh, dw


class Maps(NamedTuple):
    """All that the convolutions say of a batch; nothing after them has weights."""

    rpn: Rpn
    scores: Tensor  # (B, Hf, Wf, k * k * 2 * K), channels cell-major: (gy, gx, side, class)
    boxes: Tensor  # (B, Hf, Wf, k * k * 4), channels (gy, gx, delta)


class Proposals(NamedTuple):
    """Class-agnostic candidate boxes, best first."""

    boxes: Tensor  # (B, N, 4)
    scores: Tensor  # (B, N)
    valid: Tensor  # (B, N) bool


class AnchorTargets(NamedTuple):
    """What the region proposal network should have said."""

    labels: Tensor  # (B, A) int32: 1 object, 0 background, -1 no loss
    deltas: Tensor  # (B, A, 4); meaningful where labels == 1


class RoiTargets(NamedTuple):
    """The ROIs a training step looks at, and what the heads should say of them."""

    rois: Tensor  # (B, S, 4)
    labels: Tensor  # (B, S) int32 in -1..C; -1 no loss
    deltas: Tensor  # (B, S, 4), divided by the box standard deviations; meaningful where labels > 0
    masks: Tensor  # (B, S, p, p) int32 side of each bin; meaningful where labels > 0


class Heads(NamedTuple):
    """The answers for every ROI, all read from the shared position-sensitive maps."""

    class_logits: Tensor  # (B, N, K)
    box_deltas: Tensor  # (B, N, 4), in units of the box standard deviations
    mask_logits: Tensor  # (B, N, p, p, 2) outside, inside, of one class per ROI


class ImageInfo(NamedTuple):
    """How large the images of a batch are, in the network and in their files."""

    size: Tensor  # (B, 2) float32 height and width in network pixels, without padding
    scale: Tensor  # (B,) float32 network pixels per original pixel
    original_size: Tensor  # (B, 2) int32 height and width in original pixels


class Candidates(NamedTuple):
    """The ROIs of all passes and what was read of them."""

    rois: Tensor  # (B, N, 4) in network pixels
    valid: Tensor  # (B, N) bool
    heads: Heads


class Detections(NamedTuple):
    """The instances of each image, best first. `masks` are votes in the frame of `boxes`."""

    boxes: Tensor  # (B, D, 4)
    scores: Tensor  # (B, D)
    labels: Tensor  # (B, D) int32 in 1..C
    masks: Tensor  # (B, D, M, M) float32 in 0..1: vote for inside; a mask is votes >= threshold
    valid: Tensor  # (B, D) bool
