import json
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from fcis_tf.errors import FcisError
from fcis_tf.instances import Instances
from fcis_tf.prediction.load import load_run
from fcis_tf.prediction.output import OutputOptions
from fcis_tf.prediction.predictor import Predictor
from fcis_tf.serving.client.client import Client, ImageError
from fcis_tf.serving.client.remote import predict_remotely
from scripts.research.bad_requests import REQUEST_FAULTS, grpc_refusals, rest_refusal
from tests import fixtures
from tests.serving.conftest import ENVIRONMENT, ROOT


@pytest.fixture(scope="module")
def live(exported):
    _, labels, model = load_run(exported.run)
    return Predictor(model, labels=labels).predict_image(exported.images)


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


@pytest.mark.parametrize(
    "url, text",
    [
        ("localhost:8501", "expected http://HOST:PORT"),
        ("ftp://localhost", "expected http://HOST:PORT"),
        ("http://localhost:port", "expected http://HOST:PORT"),
        ("http://", "expected http://HOST:PORT"),
        ("grpc://user:secret@localhost", "^grpc://localhost: gRPC takes no user and password"),
    ],
)
def test_a_url_of_another_form(url, text):
    with pytest.raises(FcisError, match=text):
        Client(url)


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_a_model_that_is_not_there(exported, stand_in, way):
    with (
        Client(stand_in[way], model="other") as client,
        pytest.raises(FcisError, match="Servable not found"),
    ):
        client.detect(exported.files[0])


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_there_is_said_within_the_deadline(scheme):
    start = time.monotonic()
    with (
        Client(f"{scheme}://localhost:9", deadline=0.5) as client,
        pytest.raises(FcisError, match=r"localhost:9: no response within 0\.5 s"),
    ):
        client.detect(b"x")
    assert time.monotonic() - start < 5


class Scripted:
    """An HTTP server that gives the (status, body) pairs one after another, then the last one.

    Args:
        *replies: the pairs.
        pause: seconds between the bytes of a body.
    """

    def __init__(self, *replies, pause=0.0):
        self.times, self.headers, self.peers = [], [], set()
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                status, body = replies[min(len(scripted.times), len(replies) - 1)]
                scripted.times.append(time.monotonic())
                scripted.headers.append(self.headers)
                scripted.peers.add(self.client_address)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for part in (body[n : n + 1] for n in range(len(body))) if pause else (body,):
                    self.wfile.write(part)
                    time.sleep(pause)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_):
                pass  # the client has gone

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


EMPTY = {
    "image_error": [""],
    "num_detections": [0.0],
    "image_size": [[4, 5]],
    "detection_boxes": [[]],
    "detection_windows": [[]],
    "detection_classes": [[]],
    "detection_scores": [[]],
    "detection_masks_png_bytes": [[]],
}


def test_a_busy_server_is_asked_again_after_longer_and_longer_pauses():
    busy = (503, b'{"error": "queue is full"}')
    with Scripted(busy, busy, busy, FINE) as server, Client(server.url) as client:
        answer = client.detect(b"x")
    assert answer.masks.shape == (0, 4, 5)
    pauses = np.diff(server.times)
    assert len(pauses) == 3
    # Each pause is drawn from half to the whole of 0.1, 0.2 and 0.4 s.
    assert (pauses >= [0.05, 0.1, 0.2]).all()


def test_a_busy_server_is_given_up_at_the_deadline():
    busy = (503, b'{"error": "queue is full"}')
    with Scripted(busy) as server, Client(server.url, deadline=0.6) as client:
        with pytest.raises(FcisError, match="no response within 0.6 s.*queue is full"):
            client.detect(b"x")
        assert len(server.times) > 1


@pytest.mark.parametrize(
    "status, body, text",
    [
        (400, b'{"error": "no such signature"}', "HTTP 400: no such signature"),
        (500, b"<html>oops</html>", "HTTP 500: <html>oops</html>"),
        (200, b"not json", r"not the response of a model of `fcis export`"),
        (200, b'{"outputs": {"detection_boxes": []}}', r"not the response .*KeyError"),
        (200, b'{"outputs": [1, 2]}', r"not the response"),
    ],
)
def test_other_faults_are_said_at_once(status, body, text):
    with Scripted((status, body)) as server, Client(server.url) as client:
        with pytest.raises(FcisError, match=text):
            client.detect(b"x")
        assert len(server.times) == 1


FINE = (200, json.dumps({"outputs": EMPTY}).encode())


def test_threads_share_few_connections():
    with Scripted(FINE) as server, Client(server.url, batch_size=1, in_flight=3) as client:
        for _ in range(4):
            assert len(list(client.stream((n, b"x") for n in range(30)))) == 30
    assert len(server.times) == 120 and len(server.peers) <= 3


def test_a_deadline_holds_for_a_reply_that_comes_in_drops():
    start = time.monotonic()
    with (
        Scripted(FINE, pause=0.2) as server,
        Client(server.url, deadline=0.7) as client,
        pytest.raises(FcisError, match=r"no answer within 0\.7 s \(only \d bytes of the reply"),
    ):
        client.detect(b"x")
    assert time.monotonic() - start < 1.6


def test_too_large_a_reply_is_not_requested_again(monkeypatch):
    monkeypatch.setattr("fcis_tf.serving.client.transport.LARGEST_REPLY", 100)
    with Scripted(FINE) as server, Client(server.url) as client:
        with pytest.raises(FcisError, match="expected a reply of at most 100 bytes"):
            client.detect(b"x")
        assert len(server.times) == 1


def test_user_and_password_of_a_url_are_sent_and_not_shown():
    with Scripted((401, b'{"error": "who?"}')) as server:
        url = server.url.replace("//", "//me:a%40b@")
        with Client(url) as client, pytest.raises(FcisError) as fault:
            client.detect(b"x")
        assert str(fault.value) == f"{server.url}: HTTP 401: who?"
        assert server.headers[0]["Authorization"] == "Basic bWU6YUBi"  # me:a@b


@pytest.mark.parametrize(
    "number, text",
    [(socket.EAI_NONAME, "not known"), (socket.EAI_AGAIN, r"no answer within 0\.3 s")],
)
def test_an_unknown_host_is_final_unless_the_name_server_is_away(monkeypatch, number, text):
    tries = []

    def getaddrinfo(*_):
        tries.append(1)
        raise socket.gaierror(number, "not known" if number == socket.EAI_NONAME else "away")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with (
        Client("http://nowhere.example", deadline=0.3) as client,
        pytest.raises(FcisError, match=text),
    ):
        client.detect(b"x")
    assert (len(tries) == 1) == (number == socket.EAI_NONAME)


def test_a_server_without_tls_is_final():
    with (
        Scripted(FINE) as server,
        Client(server.url.replace("http", "https")) as client,
        pytest.raises(FcisError, match=r"^https://127\.0\.0\.1:\d+: .*(?i:ssl)"),
    ):
        client.detect(b"x")


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
