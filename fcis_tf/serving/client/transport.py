"""One predict call of TensorFlow Serving, over REST or gRPC."""

import base64
import http.client
import json
import threading
from typing import Any, Protocol
from urllib.parse import urlsplit

from fcis_tf.errors import FcisError

Outputs = dict[str, Any]  # name -> array or nested lists, dimension 0 the image; files are bytes
SIGNATURE = "compact"
LARGEST_REPLY = 256 << 20
BUSY = {408, 429, 502, 503, 504}  # HTTP statuses after which another attempt may succeed


class Unavailable(Exception):
    """No response, or the server is too busy; another attempt may succeed."""


class Transport(Protocol):
    """A connection to the server."""

    def predict(self, files: list[bytes], timeout: float) -> Outputs:
        """The outputs for image files, within `timeout` seconds.

        Raises:
            Unavailable: another attempt may succeed.
            FcisError: it will not.
        """

    def close(self) -> None:
        """Close the connections."""


def connect(url: str, model: str) -> Transport:
    """The transport for a URL; it connects with the first call.

    Raises:
        FcisError: a URL of another form, or grpcio is not installed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https", "grpc", "grpcs"} or not parts.hostname:
        raise FcisError(
            f"{url}: expected http://HOST:PORT (REST, usually 8501) or grpc://HOST:PORT (8500)"
        )
    secure = parts.scheme.endswith("s")
    if parts.scheme.startswith("grpc"):
        return Grpc(url, f"{parts.hostname}:{port or 8500}", model, secure=secure)
    return Rest(url, parts.hostname, port or (443 if secure else 8501), parts.path, model, secure)


class Rest:
    """JSON over HTTP, with a persistent connection for each thread."""

    def __init__(
        self, url: str, host: str, port: int, prefix: str, model: str, secure: bool
    ) -> None:
        self.url, self.host, self.port = url, host, port
        self.path = f"{prefix.rstrip('/')}/v1/models/{model}:predict"
        self.kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._mine = threading.local()
        self._all: list[http.client.HTTPConnection] = []

    def predict(self, files: list[bytes], timeout: float) -> Outputs:
        """As `Transport.predict`."""
        values = [{"b64": base64.b64encode(file).decode()} for file in files]
        body = json.dumps({"signature_name": SIGNATURE, "inputs": {"inputs": values}})
        status, text = self._post(body.encode(), timeout)
        if status in BUSY:
            raise Unavailable(f"HTTP {status}: {_error(text)}")
        if status != 200:
            raise FcisError(f"{self.url}: HTTP {status}: {_error(text)}")
        try:
            outputs = json.loads(text)["outputs"]
            crops = outputs["detection_masks_png_bytes"]
            outputs["detection_masks_png_bytes"] = [
                [base64.b64decode(one["b64"]) for one in image] for image in crops
            ]
        except (ValueError, KeyError, TypeError) as fault:
            raise FcisError(
                f"{self.url}: not the response of a model of `fcis export` "
                f"({type(fault).__name__}: {fault})"
            ) from None
        return outputs

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._all:
            connection.close()

    def _post(self, body: bytes, timeout: float) -> tuple[int, bytes]:
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = self.kind(self.host, self.port)
            self._all.append(connection)
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        try:
            connection.request("POST", self.path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as fault:
            connection.close()
            raise Unavailable(str(fault) or type(fault).__name__) from None


class Grpc:
    """PredictionService over one channel."""

    def __init__(self, url: str, address: str, model: str, *, secure: bool) -> None:
        try:
            import grpc
        except ImportError:
            raise FcisError(f"{url}: gRPC needs grpcio; pip install grpcio") from None
        from fcis_tf.serving.client import messages

        self.url, self.model, self.grpc, self.messages = url, model, grpc, messages
        limits = [(f"grpc.max_{way}_message_length", LARGEST_REPLY) for way in ("receive", "send")]
        self.channel = (
            grpc.secure_channel(address, grpc.ssl_channel_credentials(), limits)
            if secure
            else grpc.insecure_channel(address, limits)
        )
        self.call = self.channel.unary_unary(
            messages.PREDICT,
            request_serializer=messages.PredictRequest.SerializeToString,
            response_deserializer=messages.PredictResponse.FromString,
        )

    def predict(self, files: list[bytes], timeout: float) -> Outputs:
        """As `Transport.predict`."""
        code = self.grpc.StatusCode
        request = self.messages.predict_request(self.model, SIGNATURE, files)
        try:
            return self.messages.outputs(self.call(request, timeout=timeout))
        except self.grpc.RpcError as fault:
            status, text = fault.code(), " ".join(str(fault.details()).split())[:300]
            if status in {code.UNAVAILABLE, code.RESOURCE_EXHAUSTED, code.DEADLINE_EXCEEDED}:
                raise Unavailable(f"{status.name}: {text}") from None
            raise FcisError(f"{self.url}: {status.name}: {text}") from None

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()


def _error(text: bytes) -> str:
    """The error text of a response body, which is JSON if the server itself wrote it."""
    try:
        said = str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        said = text.decode("utf-8", "replace")
    return " ".join(said.split())[:300]
