"""FCIS as the released MXNet code computes it, for the golden arrays.

Nothing here is shared with the package: boxes are inclusive (x1, y1, x2, y2), tensors NCHW,
channels in the released order. MXNet runs the operators it has; the operators that the released
code wrote in Python are plain NumPy. Each module names the files and functions of
github.com/msracver/FCIS that it follows.
"""

from tests.golden.reference.boxes import clip, sides
from tests.golden.reference.convolutions import backbone, is_trained, network, random_parameters
from tests.golden.reference.decisions import margins
from tests.golden.reference.image import image_input
from tests.golden.reference.inference import detections, rasterise, two_passes
from tests.golden.reference.losses import roi_loss_heads, rpn_loss_heads
from tests.golden.reference.pooling import edges_hold, heads, object_scores, ps_roi_pool, softmax
from tests.golden.reference.rois import STD, hardest, label_all_rois, resized_truth
from tests.golden.reference.rpn import cell_anchors, grid_anchors, proposals, rpn_targets
from tests.golden.reference.training import training_losses

__all__ = [
    "STD",
    "backbone",
    "cell_anchors",
    "clip",
    "detections",
    "edges_hold",
    "grid_anchors",
    "hardest",
    "heads",
    "image_input",
    "is_trained",
    "label_all_rois",
    "margins",
    "network",
    "object_scores",
    "proposals",
    "ps_roi_pool",
    "random_parameters",
    "rasterise",
    "resized_truth",
    "roi_loss_heads",
    "rpn_loss_heads",
    "rpn_targets",
    "sides",
    "softmax",
    "training_losses",
    "two_passes",
]
