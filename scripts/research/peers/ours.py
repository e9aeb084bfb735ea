"""Worker: FCIS of this project, from a uint8 picture to pasted masks."""

from pathlib import Path

from setting import CLASSES, DETECTIONS, PROPOSALS
from worker import arguments, check_masks, picture, serve

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
MODELS = {"fcis_r50": "fcis_r50_coco.yaml", "fcis_r101": "fcis_r101_coco.yaml"}


def main() -> None:
    """Build the network, count its proposals once and time `Predictor.image`."""
    given = arguments(list(MODELS))
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    from fcis_tf import Predictor, __version__, load_config
    from fcis_tf.benchmark.network import as_predicted, random_network
    from fcis_tf.model.fold import fold

    config = load_config(
        CONFIGS / MODELS[given.model],
        [
            f"model.classes={CLASSES}",
            f"proposals.predict_count={PROPOSALS}",
            f"predict.max_detections={DETECTIONS}",
            "predict.score_threshold=0",  # random class scores are all near 1 / 81
        ],
    )
    image = picture()
    model = random_network(config, image)
    pixels, size, _ = as_predicted(image, config)
    proposals = int(tf.math.count_nonzero(model.propose(model(pixels), size).valid))
    predictor = Predictor(fold(model))
    first = predictor.predict_image(image)
    check_masks(first.masks, first.boxes)

    def run() -> tuple[int, int]:
        """One inference; its graph proposes what was counted above."""
        return proposals, len(predictor.predict_image(image))

    serve(run, {"fcis_tf": __version__, "tensorflow": tf.__version__})


if __name__ == "__main__":
    main()
