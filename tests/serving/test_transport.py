"""The client against servers that are scripted, away or of another kind."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from fcis_tf.errors import FcisError
from fcis_tf.serving.client.client import Client


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


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_no_server_is_reported_within_the_deadline(scheme):
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


def test_requests_to_a_busy_server_are_repeated_after_growing_pauses():
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
def test_other_faults_are_reported_at_once(status, body, text):
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
        pytest.raises(FcisError, match=r"no response within 0\.7 s \(only \d bytes of the reply"),
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
    [(socket.EAI_NONAME, "not known"), (socket.EAI_AGAIN, r"no response within 0\.3 s")],
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
