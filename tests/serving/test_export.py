import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fcis_tf.errors import FcisError
from fcis_tf.labels import Labels
from fcis_tf.prediction.load import load_run
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.serving.export.export import export
from fcis_tf.serving.export.ops_check import check_operations, used_operations
from tests import fixtures
from tests.serving.conftest import ENVIRONMENT

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
print(json.dumps({k: v.numpy().tolist() for k, v in found.items() if v.dtype != tf.string}))
"""


@pytest.fixture(scope="module")
def signatures(exported):
    return tf.saved_model.load(str(exported.out)).signatures


def test_a_process_without_the_package_gets_the_same_detections(exported, live, tmp_path):
    names = [tmp_path / f"{n}.png" for n in range(len(exported.files))]
    for name, file in zip(names, exported.files, strict=True):
        name.write_bytes(file)
    command = [sys.executable, "-I", "-c", FOREIGN, str(exported.out), *map(str, names)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = {k: np.array(v) for k, v in json.loads(done.stdout.splitlines()[-1]).items()}
    for i, wanted in enumerate(live):
        assert found["num_detections"][i] == len(wanted.labels) > 0
        scores = found["detection_scores"][i][: len(wanted.labels)]
        np.testing.assert_allclose(scores, wanted.scores, atol=1e-5)


@pytest.mark.parametrize("signature", ["serving_default", "images"])
def test_exported_and_live_model_agree(exported, live, signatures, signature):
    labels = Labels.load(exported.run / "labels.json")
    for file, image, wanted in zip(exported.files, exported.images, live, strict=True):
        inputs = image[None] if signature == "images" else [file]
        answer = signatures[signature](inputs=tf.constant(inputs))
        found = {name: value[0].numpy() for name, value in answer.items()}
        count = int(found["num_detections"])
        assert count == len(wanted.labels) > 0
        height, width = image.shape[:2]
        assert found["image_size"].tolist() == [height, width]
        assert found["image_error"] == b""
        boxes = found["detection_boxes"][:count] * [height, width, height, width]
        np.testing.assert_allclose(boxes, wanted.boxes, atol=1e-3)
        np.testing.assert_allclose(found["detection_scores"][:count], wanted.scores, atol=1e-5)
        raw = [labels.ids[n - 1] for n in wanted.labels]
        np.testing.assert_array_equal(found["detection_classes"][:count], raw)
        for n, mask in enumerate(wanted.masks):
            canvas = np.zeros_like(mask)
            y0, x0, y1, x1 = found["detection_windows"][n]
            if png := found["detection_masks_png_bytes"][n]:
                canvas[y0:y1, x0:x1] = np.asarray(Image.open(io.BytesIO(png))) > 0
            assert (canvas & mask).sum() >= 0.999 * (canvas | mask).sum()
        for name in ("detection_scores", "detection_masks", "detection_windows"):
            assert not found[name][count:].any()
        assert not any(found["detection_masks_png_bytes"][count:])


def test_neighbours_in_a_batch_do_not_matter(exported, signatures):
    serve = signatures["compact"]
    a, b, c = exported.files
    alone = {file: serve(inputs=tf.constant([file])) for file in (a, b, c)}
    bad, text = b"", b"not an image"
    large = fixtures.encode_image(np.zeros((150, 150, 3), np.uint8))
    for batch in ([a, b, c], [a, bad, a], [text, b, large, b[:-200], c], [c, c]):
        found = serve(inputs=tf.constant(batch))
        for i, file in enumerate(batch):
            if file not in alone:
                assert found["image_error"][i] != b"" and found["num_detections"][i] == 0
                continue
            assert found["image_error"][i] == b""
            assert found["num_detections"][i] == alone[file]["num_detections"][0]
            for name in ("detection_boxes", "detection_scores"):
                np.testing.assert_allclose(found[name][i], alone[file][name][0], atol=1e-5)


def test_a_batch_of_bad_files_and_an_empty_batch(signatures):
    found = signatures["compact"](inputs=tf.constant([b"", b"text"]))
    assert found["image_error"].numpy().tolist() == [b"an empty file", b"neither JPEG nor PNG"]
    for signature, inputs in (("compact", []), ("images", np.zeros((0, 8, 8, 3), np.uint8))):
        kind = tf.string if signature == "compact" else tf.uint8
        with pytest.raises(tf.errors.InvalidArgumentError, match="found an empty batch"):
            signatures[signature](inputs=tf.constant(inputs, kind))


def test_images_of_extreme_shape_are_answered(signatures):
    for height, width in ((1, 1), (1, 2000), (2000, 1), (3, 900)):
        file = fixtures.encode_image(np.full((height, width, 3), 128, np.uint8))
        found = signatures["compact"](inputs=tf.constant([file]))
        assert found["image_error"][0] == b""
        assert found["image_size"][0].numpy().tolist() == [height, width]


def test_the_session_loader_of_saved_model_cli_runs_it(exported, tmp_path):
    np.save(tmp_path / "images.npy", exported.images[0][None])
    script = "from tensorflow.python.tools.saved_model_cli import main; main()"
    command = [sys.executable, "-c", script, "run", "--dir", str(exported.out)]
    command += ["--tag_set", "serve", "--signature_def", "images", "--outdir", str(tmp_path)]
    command += ["--inputs", f"inputs={tmp_path / 'images.npy'}"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.load(tmp_path / "num_detections.npy")[0] > 0


def test_every_operation_is_stock(exported):
    used = check_operations(exported.out)
    assert {"Conv2D", "DecodeJpeg", "VarHandleOp"} <= set(used)
    assert set(used) == set(used_operations(exported.out))


def test_an_operation_that_a_server_lacks_is_named(tmp_path):
    class WithPython(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None])])
        def call(self, x):
            return {"y": tf.map_fn(lambda one: tf.numpy_function(abs, [one], tf.float32), x)}

    module = WithPython()
    tf.saved_model.save(module, str(tmp_path), signatures=module.call)
    with pytest.raises(FcisError, match=r"does not have PyFunc\w* in .*map_while"):
        check_operations(tmp_path)
    path = tmp_path / "saved_model.pb"
    # Of the same length, so that the message stays whole.
    path.write_bytes(re.sub(rb"PyFunc(?!S)", b"FcisOp", path.read_bytes()))
    with pytest.raises(FcisError, match="FcisOp"):
        check_operations(tmp_path)
    with pytest.raises(FcisError, match="not a SavedModel"):
        check_operations(tmp_path / "nothing")


def test_every_input_and_output_has_a_batch_dimension(signatures):
    assert set(signatures) == {"serving_default", "compact", "images"}
    for signature in signatures.values():
        shapes = [v.shape for v in signature.structured_input_signature[1].values()]
        shapes += [v.shape for v in signature.structured_outputs.values()]
        assert all(shape.rank >= 1 and shape[0] is None for shape in shapes)


def test_what_lies_in_and_beside_the_version_folder(exported):
    extra = exported.out / "assets.extra"
    assert Labels.load(extra / "labels.json").ids == tuple(fixtures.NAMES)
    card = json.loads((extra / "model_card.json").read_text())
    assert card["metrics"]["mask"] == {"AP": 0.25} and card["input"]["max_pixels"] == 20_000
    page = (extra / "MODEL_CARD.md").read_text()
    assert "| AP | 0.250 | 0.500 |" in page and "disc, block, other" in page
    beside = sorted(path.name for path in exported.out.parent.iterdir())
    assert beside == ["1", "batching_parameters.txt"]


@pytest.mark.parametrize(
    "name, overrides, text",
    [
        ("1", (), "exists; export to another version"),
        ("best", (), "best/1"),
        ("2", ("predict.scales=[1,2]",), "predict.scales=null"),
        ("2", ("predict.ensemble=[other]",), r"predict.ensemble=\[\]"),
        ("2", ("predict.tile=100",), "predict.tile=null"),
    ],
)
def test_what_cannot_be_exported(exported, name, overrides, text):
    with pytest.raises(FcisError, match=text):
        export(exported.run, exported.out.with_name(name), overrides=overrides)
    assert not exported.out.with_name("2").exists()


@pytest.mark.slow
def test_options_change_what_is_exported(exported, tmp_path):
    out = tmp_path / "3"
    options = ("predict.max_detections=2", "predict.score_threshold=0.1", "predict.flip=true")
    export(exported.run, out, overrides=options, upright=False)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = fixtures.encode_image(exported.images[0], "JPEG", exif=exif.tobytes())
    found = tf.saved_model.load(str(out)).signatures["compact"](inputs=tf.constant([file]))
    assert found["image_size"][0].numpy().tolist() == list(exported.images[0].shape[:2])
    assert found["detection_scores"].shape == (1, 2)
    _, _, model = load_run(exported.run, options)
    with Image.open(io.BytesIO(file)) as image:
        wanted = Predictor(model).predict_image(np.asarray(image))
    count = int(found["num_detections"][0])
    assert count == len(wanted.scores)
    np.testing.assert_allclose(found["detection_scores"][0, :count], wanted.scores, atol=1e-4)
