import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fcis_tf.errors import FcisError
from fcis_tf.instances import Instances
from fcis_tf.prediction.output import OutputOptions
from fcis_tf.serving.client.client import Client, ImageError
from fcis_tf.serving.client.remote import predict_remotely
from scripts.research.bad_requests import REQUEST_FAULTS, grpc_refusals, rest_refusal
from tests import fixtures
from tests.serving.conftest import ENVIRONMENT, ROOT


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_answers_are_those_of_the_run(exported, stand_in, live, way):
    with Client(stand_in[way], labels=live[0].classes) as client:
        many = list(client.stream(enumerate(exported.files * 3)))
    assert [key for key, _ in many] == list(range(9))
    for key, answer in many:
        expected = live[key % 3]
        assert isinstance(answer, Instances)
        assert (answer.height, answer.width) == exported.images[key % 3].shape[:2]
        np.testing.assert_allclose(answer.boxes, expected.boxes, atol=1e-3)
        assert answer.category_ids == expected.category_ids and answer.names == expected.names
        np.testing.assert_allclose(answer.scores, expected.scores, atol=1e-5)
        np.testing.assert_array_equal(answer.masks, expected.masks)


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_a_bad_file_is_its_own_fault_and_a_bad_request_too(exported, stand_in, way):
    with Client(stand_in[way]) as client:
        good, bad = client.detect_batch([exported.files[0], b"text"])
        assert isinstance(good, Instances) and isinstance(bad, ImageError)
        with pytest.raises(ImageError, match="image 0: an empty file"):
            client.detect(b"")
        with pytest.raises(FcisError, match="files: expected at least one image"):
            client.detect_batch([])
    send = grpc_refusals(stand_in["grpc"])
    for fault in REQUEST_FAULTS:
        if way == "rest":
            assert rest_refusal(stand_in["rest"], fault, exported.files[0])
        else:
            assert send(fault, exported.files[0])


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_a_model_that_is_not_there(exported, stand_in, way):
    with (
        Client(stand_in[way], model="other") as client,
        pytest.raises(FcisError, match="Servable not found"),
    ):
        client.detect(exported.files[0])


def test_the_client_does_without_tensorflow(exported, stand_in, tmp_path):
    (tmp_path / "image.png").write_bytes(exported.files[0])
    script = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from pathlib import Path\n"
        "from fcis_tf.serving.client.client import Client\n"
        "for url in sys.argv[2:]:\n"
        "    print(len(Client(url).detect(Path(sys.argv[1]).read_bytes()).scores))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "image.png"), *stand_in.values()]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-2000:]
    counts = done.stdout.split()
    assert len(counts) == 2 and counts[0] == counts[1] != "0"


def test_a_folder_by_a_server_is_written_and_its_bad_file_named(exported, stand_in, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    (source / "turned.jpg").write_bytes(
        fixtures.encode_image(exported.images[0], "JPEG", exif=exif.tobytes())
    )
    (source / "bitmap.bmp").write_bytes(fixtures.encode_image(exported.images[1], "BMP"))
    (source / "bad.jpg").write_bytes(b"text")
    with pytest.raises(FcisError, match=r"bad\.jpg: neither JPEG nor PNG; the other images are in"):
        predict_remotely(stand_in["rest"], [source], out, OutputOptions(0.0, label_maps=True))
    names = ["bitmap.png", "bitmap_labels.png", "predictions.json"]
    assert sorted(p.name for p in out.iterdir()) == [*names, "turned.png", "turned_labels.png"]
    height, width = exported.images[0].shape[:2]
    with Image.open(out / "turned_labels.png") as found:
        assert found.size == (height, width)  # upright: rows have become columns
    results = json.loads((out / "predictions.json").read_text())
    assert {one["image_id"] for one in results} == {"bitmap.bmp", "turned.jpg"}
    assert {one["category_id"] for one in results} <= set(fixtures.NAMES)


@pytest.mark.slow
def test_the_load_test_finds_nothing_wrong(exported, tmp_path):
    """Some hundred requests of sixteen clients; docs/serving.md has ten thousand."""
    for n, image in enumerate(exported.images):
        content = fixtures.encode_image(image, "JPEG", quality=95)
        (tmp_path / f"{n}.jpg").write_bytes(content)
    command = [sys.executable, str(ROOT / "scripts/research/load_test.py"), "--requests", "300"]
    command += ["--run", str(exported.run), "--base", str(exported.out.parent)]
    command += ["--images", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    report = json.loads(re.search(r"^\{.*^\}", done.stdout, re.S | re.M)[0])
    assert report["wrong"] == 0
    assert sum(report["requests"].values()) == 300
    assert set(report["requests"]) >= {"good", "PNG bomb", "empty batch", "wrong key"}
    assert report["memory_growth"] < 0.2


def test_classes_without_labels_are_named_by_their_ids(exported, stand_in, live):
    with Client(stand_in["rest"]) as client:
        found = client.detect(exported.files[0])
    assert found.category_ids == live[0].category_ids
    assert found.names == [f"category {i}" for i in live[0].category_ids]
