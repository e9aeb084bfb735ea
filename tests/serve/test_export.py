import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from fcis_tf.config import load_config
from fcis_tf.errors import FcisError
from fcis_tf.inference import Predictor, load_run
from fcis_tf.labels import Labels
from fcis_tf.model.fcis import FCIS
from fcis_tf.model.weights import BEST, save_weights
from fcis_tf.serve.export import export
from tests import fixtures
from tests.train.test_loop import TINY

# Loads the model where neither Keras nor this package can be imported.
FOREIGN = """
import sys
for name in ("keras", "tf_keras", "fcis_tf"):
    sys.modules[name] = None
import json
from pathlib import Path
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
files = [Path(name).read_bytes() for name in sys.argv[2:]]
found = model.signatures["serving_default"](inputs=tf.constant(files))
print(json.dumps({name: value.numpy().tolist() for name, value in found.items()}))
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An exported model with random weights, its run, and image files of two sizes."""
    folder = tmp_path_factory.mktemp("export")
    run = folder / "run"
    run.mkdir()
    config = load_config(None, [*TINY, "model.classes=3", "predict.score_threshold=0.05"])
    tf.keras.utils.set_random_seed(2)
    config.save(run / "config.yaml")
    Labels(tuple(fixtures.NAMES), tuple(fixtures.NAMES.values())).save(run / "labels.json")
    save_weights(FCIS.from_config(config), run / BEST)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*s, 3), dtype=np.uint8) for s in ((70, 90), (100, 60))]
    files = [folder / "a.png", folder / "b.png"]
    for file, picture in zip(files, pictures, strict=True):
        file.write_bytes(fixtures.encode_image(picture))
    return export(run, folder / "model" / "1"), run, files, pictures


def live(run, pictures):
    config, labels, model = load_run(run)
    predictor = Predictor(model)
    return [predictor.image(p) for p in pictures], labels


def test_a_process_without_the_package_gets_the_same_detections(exported):
    out, run, files, pictures = exported
    command = [sys.executable, "-I", "-c", FOREIGN, str(out), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {k: np.array(v) for k, v in json.loads(done.stdout.splitlines()[-1]).items()}
    assert all(len(value) == 2 for value in found.values())
    # The two images are padded to one size in the batch, so compare each alone below; here the
    # larger count of what the process returned must be consistent.
    for i in range(2):
        count = int(found["num_detections"][i])
        assert (found["detection_scores"][i][:count] > 0).all()
        assert not found["detection_scores"][i][count:].any()
        assert not found["detection_masks"][i][count:].any()


@pytest.mark.parametrize("signature", ["serving_default", "images"])
def test_exported_and_live_model_agree(exported, signature):
    out, run, files, pictures = exported
    expected, labels = live(run, pictures)
    serve = tf.saved_model.load(str(out)).signatures[signature]
    for file, picture, wanted in zip(files, pictures, expected, strict=True):
        inputs = [file.read_bytes()] if signature == "serving_default" else picture[None]
        found = {k: v[0].numpy() for k, v in serve(inputs=tf.constant(inputs)).items()}
        count = int(found["num_detections"])
        assert count == len(wanted.labels) > 0
        height, width = picture.shape[:2]
        boxes = found["detection_boxes"][:count] * [height, width, height, width]
        np.testing.assert_allclose(boxes, wanted.boxes, atol=1e-3)
        np.testing.assert_allclose(found["detection_scores"][:count], wanted.scores, atol=1e-5)
        raw = [labels.ids[n - 1] for n in wanted.labels]
        np.testing.assert_array_equal(found["detection_classes"][:count], raw)


def test_a_batch_of_equal_sizes_gives_what_its_images_give(exported):
    out, _, _, pictures = exported
    serve = tf.saved_model.load(str(out)).signatures["images"]
    batch = np.stack([pictures[0], pictures[0][:, ::-1]])
    together = serve(inputs=tf.constant(batch))
    for i in range(2):
        alone = serve(inputs=tf.constant(batch[i : i + 1]))
        for name, value in together.items():
            np.testing.assert_allclose(value[i], alone[name][0], atol=2e-3)


def test_only_stock_operations_and_no_python(exported):
    out, *_ = exported
    graph = SavedModel.FromString((out / "saved_model.pb").read_bytes()).meta_graphs[0]
    used = {node.op for node in graph.graph_def.node}
    used |= {n.op for f in graph.graph_def.library.function for n in f.node_def}
    stock = set(tf.raw_ops.__dict__)
    functions = {f.signature.name for f in graph.graph_def.library.function}
    assert not used - stock - functions
    assert not used & {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def test_every_input_and_output_has_a_batch_dimension(exported):
    out, *_ = exported
    for signature in tf.saved_model.load(str(out)).signatures.values():
        shapes = [v.shape for v in signature.structured_input_signature[1].values()]
        shapes += [v.shape for v in signature.structured_outputs.values()]
        assert all(shape.rank >= 1 and shape[0] is None for shape in shapes)


def test_labels_travel_along_and_nothing_is_overwritten(exported):
    out, run, _, _ = exported
    assert Labels.load(out / "assets.extra" / "labels.json").ids == tuple(fixtures.NAMES)
    with pytest.raises(FcisError, match="exists; export to another version"):
        export(run, out)
    assert [p.name for p in out.parent.iterdir()] == ["1"]


@pytest.mark.parametrize("key", ["scales=[1.0]", "ensemble=[a]"])
def test_ways_of_predicting_that_are_not_one_graph_are_refused(exported, tmp_path, key):
    _, run, _, _ = exported
    with pytest.raises(FcisError, match=f"predict.{key.split('=')[0]}: an exported model looks"):
        export(run, tmp_path / "2", overrides=(f"predict.{key}",))
    assert not (tmp_path / "2").exists()
