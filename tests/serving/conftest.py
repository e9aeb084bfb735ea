import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from fcis_tf.config import load_config
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.prediction.load import load_run
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.serving.export.export import export
from fcis_tf.weights.weight_files import BEST, save_weights
from tests import fixtures
from tests.shared import make_once
from tests.training.test_loop import TINY

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


class Exported(NamedTuple):
    """A run with random weights, its export, and images of three sizes with their files."""

    out: Path
    run: Path
    images: list[np.ndarray]
    files: list[bytes]


def export_a_run(folder):
    run = folder / "run"
    run.mkdir()
    small = ("data.validation_short_side=64", "data.validation_long_side=64")
    config = load_config(
        None,
        [*TINY, *small, "model.classes=3", "predict.score_threshold=0.05"],
    )
    tf.keras.utils.set_random_seed(2)
    config.save(run / "config.yaml")
    Labels(tuple(fixtures.NAMES), tuple(fixtures.NAMES.values())).save(run / "labels.json")
    save_weights(FCIS.from_config(config), run / BEST)
    (run / "metrics.json").write_text('{"step": 7, "mask": {"AP": 0.25}, "box": {"AP": 0.5}}')
    export(run, folder / "model" / "1", max_pixels=20_000)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    folder = make_once(tmp_path_factory, "export", export_a_run)
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, (*s, 3), dtype=np.uint8) for s in ((70, 90), (100, 60), (80, 80))
    ]
    files = [fixtures.encode_image(image) for image in images]
    return Exported(folder / "model" / "1", folder / "run", images, files)


@pytest.fixture(scope="session")
def live(exported, tmp_path_factory):
    """What the run itself finds in each image."""

    def predict(folder):
        _, labels, model = load_run(exported.run)
        found = Predictor(model, labels=labels).predict_image(exported.images)
        (folder / "found.pickle").write_bytes(pickle.dumps(found))

    folder = make_once(tmp_path_factory, "live", predict)
    return pickle.loads((folder / "found.pickle").read_bytes())


@pytest.fixture(scope="session")
def stand_in(exported):
    """URLs of the exported model over REST and gRPC."""
    base = exported.out.parent
    command = [sys.executable, "-m", "tests.serving.stand_in", "--base", str(base)]
    command += ["--batching", str(base / "batching_parameters.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as server:
        ready = json.loads(server.stdout.readline())
        assert ready["warm_up_requests"] == 4
        yield {way: f"{scheme}://localhost:{ready[way]}" for way, scheme in SCHEMES.items()}
        server.terminate()


SCHEMES = {"rest": "http", "grpc": "grpc"}
