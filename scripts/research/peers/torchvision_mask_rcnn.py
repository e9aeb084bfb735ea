"""Worker: torchvision's Mask R-CNN, from a uint8 picture to pasted masks.

Both networks are torchvision's own, with its compiled operators. Random weights would give
softmax scores near 1 / 81, below its box_score_thresh of 0.05, and so no detections and no work
for the mask head: the thresholds are 0 here. The masks that it pastes are left as probabilities.
Its normalisation layers are what the two calls make without pretrained weights: FrozenBatchNorm2d
in the ResNet-101, BatchNorm2d in the ResNet-50.

Memory comes from the C library as it is set up by default, which takes some 1.4 GB of fresh pages
in every run. glibc keeps them with MALLOC_MMAP_THRESHOLD_=1073741824 and
MALLOC_TRIM_THRESHOLD_=8589934592 in the environment of the script; it is then about a seventh
faster.
"""

import sys

from setting import CLASSES, DETECTIONS, HEIGHT, PROPOSALS, RESIDUAL_GAMMA, WIDTH
from worker import arguments, check_masks, picture, serve

MODELS = ["mask_rcnn_r50", "mask_rcnn_r101"]


def main() -> None:
    """Build the network, count what reaches its heads and time it."""
    given = arguments(MODELS)
    import torch
    import torchvision
    from torchvision.models.detection import maskrcnn_resnet50_fpn
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.models.detection.mask_rcnn import MaskRCNN

    if not torchvision.extension._has_ops():
        sys.exit("error: torchvision's compiled operators do not load; reinstall it with its torch")
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    settings = {
        "num_classes": CLASSES + 1,
        "min_size": HEIGHT,
        "max_size": WIDTH,
        "rpn_post_nms_top_n_test": PROPOSALS,
        "rpn_score_thresh": 0.0,
        "box_score_thresh": 0.0,
        "box_detections_per_img": DETECTIONS,
    }
    if given.model == "mask_rcnn_r101":
        backbone = resnet_fpn_backbone(backbone_name="resnet101", weights=None)
        model = MaskRCNN(backbone, **settings)
    else:
        model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, **settings)
    model.eval()
    for name, module in model.backbone.body.named_modules():
        if name.endswith(".bn3"):
            module.weight.data.fill_(RESIDUAL_GAMMA)

    reached = {}  # rows that went into each head
    for part in ("box_head", "mask_head"):
        getattr(model.roi_heads, part).register_forward_pre_hook(
            lambda _, rows, part=part: reached.update({part: len(rows[0])})
        )
    image = picture()

    def infer() -> dict[str, torch.Tensor]:
        """One inference: float pixels in 0..1, then the model with all of its postprocessing."""
        with torch.inference_mode():
            pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
            return model([pixels])[0]

    def run() -> tuple[int, int]:
        """One inference, and the ROIs that its two heads saw."""
        infer()
        return reached["box_head"], reached["mask_head"]

    first = infer()
    check_masks(first["masks"], first["boxes"].numpy())
    serve(run, {"torch": torch.__version__, "torchvision": torchvision.__version__})


if __name__ == "__main__":
    main()
