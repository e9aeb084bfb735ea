"""Worker: FCIS of this project, from a uint8 picture to pasted masks."""

from pathlib import Path

from setting import CLASSES, DETECTIONS, HEIGHT, PROPOSALS, RESIDUAL_GAMMA, WIDTH
from worker import arguments, check_masks, picture, serve

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MODELS = {"fcis_r50": "fcis_r50_coco.yaml", "fcis_r101": "fcis_r101_coco.yaml"}


def main() -> None:
    """Build the network, count its proposals once and time `Predictor.image`."""
    given = arguments(list(MODELS))
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from fcis_tf import FCIS, Predictor, __version__, load_config
    from fcis_tf.data.pipeline import network_input
    from fcis_tf.inference import resizing
    from fcis_tf.model.fold import fold

    keras.utils.set_random_seed(0)
    config = load_config(
        CONFIGS / MODELS[given.model],
        [
            f"model.classes={CLASSES}",
            f"proposals.predict_count={PROPOSALS}",
            f"predict.max_detections={DETECTIONS}",
            "predict.score_threshold=0",  # random class scores are all near 1 / 81
        ],
    )
    model = FCIS.from_config(config)
    norms = [layer for layer in model.backbone.layers if hasattr(layer, "gamma")]
    for layer in norms:
        if layer.name.endswith("_3_bn"):
            layer.gamma.assign(layer.gamma * RESIDUAL_GAMMA)
    image = picture()
    pixels, _ = network_input(image, **resizing(config))
    pixels = pixels[None]
    # The network takes pixels in -128..128, so its random features have a deviation of some
    # hundreds and its proposals cover the image. Divided by it once, at the first normalisation,
    # features have a deviation of 1: nothing after it but ReLU, convolutions and sums.
    conv4, _ = model.backbone(pixels)
    norms[0].gamma.assign(norms[0].gamma / tf.math.reduce_std(conv4))
    size = tf.constant([[HEIGHT, WIDTH]], tf.float32)
    proposals = int(tf.math.count_nonzero(model.propose(model(pixels), size).valid))
    predictor = Predictor(fold(model))
    first = predictor.image(image)
    check_masks(first.masks, first.boxes)

    def run() -> tuple[int, int]:
        """One inference; its graph proposes what was counted above."""
        return proposals, len(predictor.image(image).masks)

    serve(run, {"fcis_tf": __version__, "tensorflow": tf.__version__})


if __name__ == "__main__":
    main()
