"""Worker: Mask R-CNN of TensorFlow's Model Garden, from a uint8 picture to pasted masks.

The picture is normalised and padded to 640 x 1024, as the network needs a multiple of 64. Its
score threshold is 0 here: random weights would give softmax scores near 1 / 81, below its 0.05.
Masks are pasted into the picture with its own NumPy and OpenCV function.
"""

import os
from importlib.metadata import version
from typing import Any

from setting import CLASSES, DETECTIONS, HEIGHT, PROPOSALS, WIDTH
from worker import arguments, check_masks, picture, serve

PADDED = (640, 1024)


def main() -> None:
    """Build the network and time it with its preparation and pasting."""
    arguments(["mask_rcnn_r50"])
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import cv2
    import numpy as np
    import tensorflow as tf
    import tf_keras

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    cv2.setNumThreads(1)
    from official.vision.configs import backbones, maskrcnn
    from official.vision.modeling import factory
    from official.vision.ops.mask_ops import paste_instance_masks
    from official.vision.ops.preprocess_ops import normalize_image

    tf_keras.utils.set_random_seed(0)
    config = maskrcnn.MaskRCNN(
        num_classes=CLASSES + 1,
        input_size=[*PADDED, 3],
        backbone=backbones.Backbone(type="resnet", resnet=backbones.ResNet(model_id=50)),
        roi_generator=maskrcnn.ROIGenerator(test_num_proposals=PROPOSALS),
        detection_generator=maskrcnn.DetectionGenerator(
            pre_nms_score_threshold=0.0, max_num_detections=DETECTIONS
        ),
    )
    specification = tf_keras.layers.InputSpec(shape=[1, *PADDED, 3])
    model = factory.build_maskrcnn(specification, config)

    seen = []  # scores (1, n) of the proposals of the graph; missing ones have -1
    propose = model.roi_generator.call

    def propose_seen(*inputs: Any, **options: Any) -> Any:  # tf is no global name
        """The proposal layer, with a note of its scores."""
        boxes, scores = propose(*inputs, **options)
        seen.append(scores)
        return boxes, scores

    model.roi_generator.call = propose_seen

    @tf.function(input_signature=[tf.TensorSpec([HEIGHT, WIDTH, 3], tf.uint8)])
    def infer(image: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """One picture -> boxes, small masks, number of detections, number of proposals."""
        pixels = normalize_image(tf.cast(image, tf.float32) / 255)
        pixels = tf.image.pad_to_bounding_box(pixels, 0, 0, *PADDED)[None]
        shape = tf.constant([[HEIGHT, WIDTH]], tf.float32)
        found = model(pixels, image_shape=shape, training=False)
        proposals = tf.math.count_nonzero(seen[-1] > 0)
        names = ("detection_boxes", "detection_masks", "num_detections")
        return (*(found[name][0] for name in names), proposals)

    image = picture()

    def paste() -> tuple[np.ndarray, np.ndarray, int]:
        """One inference: masks of the whole picture, their boxes, the number of proposals."""
        boxes, masks, count, proposals = (part.numpy() for part in infer(image))
        boxes, masks = boxes[:count], masks[:count]
        corner, opposite = boxes[:, 1::-1], boxes[:, :1:-1]  # (y0, x0, y1, x1) -> x, y
        extent = np.concatenate([corner, opposite - corner], 1)
        return paste_instance_masks(masks, extent, HEIGHT, WIDTH), boxes, int(proposals)

    def run() -> tuple[int, int]:
        """One inference, and how many proposals and masks it had."""
        masks, _, proposals = paste()
        return proposals, len(masks)

    masks, boxes, _ = paste()
    check_masks(masks, boxes)
    garden = version("tf-models-official")
    serve(run, {"tf-models-official": garden, "tensorflow": tf.__version__})


if __name__ == "__main__":
    main()
