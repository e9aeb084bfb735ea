"""Evaluation while training: AP, pictures, and the weights with the best AP."""

import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fcis_tf import drawing
from fcis_tf.config import Config
from fcis_tf.data.images import read_image
from fcis_tf.data.records import read_records
from fcis_tf.evaluation import coco
from fcis_tf.evaluation.run import evaluate_model
from fcis_tf.files import write_json
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.weights.weight_files import BEST, load_notes, save_weights

METRICS = "metrics.json"
SHOWN = 0.5  # least score of an instance in a picture


class Validation:
    """Evaluates the current weights, draws a few predictions and keeps the best weights.

    ``best.weights.h5`` holds the metrics of its weights too, and ``metrics.json`` repeats them: so
    the two cannot contradict each other for longer than an interruption.

    Args:
        model: the network in training.
        config: its configuration.
        labels: its classes.
        run: where metrics and weights go.
    """

    def __init__(self, model: FCIS, config: Config, labels: Labels, run: Path) -> None:
        self.config, self.labels, self.run, self.model = config, labels, run, model
        self.records = config.data.validation
        self.predictor = Predictor(model, labels=labels)
        self.metrics: coco.Metrics | None = None

    def __call__(self, progress: Callable[[int, int], None] | None = None) -> float:
        """Mask AP on the validation records; without any, 0, so that the last weights are kept.

        Args:
            progress: called with (done, total) images.
        """
        if not self.records:
            return 0.0
        self.metrics, _ = evaluate_model(
            self.predictor,
            self.records,
            limit=self.config.train.evaluate_images,
            progress=progress,
        )
        return self.metrics.mask["AP"]

    @property
    def ap50(self) -> float:
        """Mask AP50 of the last call, -1 before the first."""
        return self.metrics.mask["AP50"] if self.metrics else -1.0

    def keep(self, step: int) -> None:
        """Save the current weights as the best, with the metrics of the last call."""
        content = {"step": step, **(self.metrics.to_dict() if self.metrics else {})}
        save_weights(self.model, self.run / BEST, notes=content)
        write_json(self.run / METRICS, content)

    def kept_ap(self) -> float:
        """AP of the best weights so far, -1 if there are none that can be read.

        ``metrics.json`` is made to say the same.
        """
        path = self.run / BEST
        content = load_notes(path)
        if content is None:
            if path.exists():
                print(f"{path}: damaged; the next evaluation replaces it", flush=True)
            return -1.0
        write_json(self.run / METRICS, content)
        return content["mask"]["AP"] if "mask" in content else 0.0

    def pictures(self) -> Iterator[np.ndarray]:
        """Of the first few records: the ground truth and, to the right, the prediction."""
        if not self.records:
            return
        for record in itertools.islice(read_records(self.records), self.config.train.pictures):
            image = read_image(io.BytesIO(record.encoded), record.image_id)
            true = record.instances
            expected = drawing.draw_instances(
                image,
                np.array([instance.box for instance in true]).reshape(-1, 4),
                np.array([instance.mask > 0 for instance in true]).reshape(-1, *image.shape[:2]),
                [instance.name for instance in true],
            )
            predicted = np.asarray(self.predictor.predict_image(image).above(SHOWN).draw())
            yield drawing.contact_sheet([expected, predicted], 2)
