"""One predict call of TensorFlow Serving, over REST or gRPC."""

import base64
import json
import socket
import time
from typing import Any, Protocol
from urllib.parse import unquote

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, NameResolutionError, SSLError
from urllib3.util import Url, make_headers, parse_url

from fcis_tf.errors import FcisError

Outputs = dict[str, Any]  # name -> array or nested lists, dimension 0 the image; files are bytes
SIGNATURE = "compact"
LARGEST_REPLY = 256 << 20
CHUNK = 1 << 20  # bytes of a reply that are read at a time
BUSY = {408, 429, 502, 503, 504}  # HTTP statuses after which another attempt may succeed


class Unavailable(Exception):
    """No response, or the server is too busy; another attempt may succeed."""


class Transport(Protocol):
    """A connection to the server."""

    url: str  # without a user's name and password

    def predict(self, files: list[bytes], timeout: float) -> Outputs:
        """The outputs for image files, within `timeout` seconds.

        Raises:
            Unavailable: another attempt may succeed.
            FcisError: it will not.
        """

    def close(self) -> None:
        """Close the connections."""


def connect(url: str, model: str, connections: int) -> Transport:
    """The transport for a URL; it connects with the first call.

    Args:
        url: ``http[s]://[USER:PASSWORD@]HOST:PORT`` or ``grpc[s]://HOST:PORT``.
        model: name of the model on the server.
        connections: number that is kept open for REST.

    Raises:
        FcisError: a URL of another form, or grpcio is not installed.
    """
    try:
        parts = parse_url(url)
    except LocationParseError:
        parts = Url()
    if parts.scheme not in {"http", "https", "grpc", "grpcs"} or not parts.host:
        raise FcisError(
            f"{url}: expected http://HOST:PORT (REST, usually 8501) or grpc://HOST:PORT (8500)"
        )
    if parts.scheme.startswith("http"):
        return Rest(parts, model, connections)
    if parts.auth:
        raise FcisError(f"{parts._replace(auth=None)}: gRPC takes no user and password in the URL")
    address = f"{parts.host}:{parts.port or 8500}"
    return Grpc(url, address, model, secure=parts.scheme == "grpcs")


class Rest:
    """JSON over HTTP, by a pool of connections that threads share."""

    def __init__(self, parts: Url, model: str, connections: int) -> None:
        port = parts.port or (443 if parts.scheme == "https" else 8501)
        self.url = parts._replace(auth=None).url
        self.path = f"{(parts.path or '').rstrip('/')}/v1/models/{model}:predict"
        user = make_headers(basic_auth=unquote(parts.auth)) if parts.auth else {}
        self.pool = urllib3.connection_from_url(
            parts._replace(auth=None, port=port).url,
            maxsize=connections,
            headers={"Content-Type": "application/json", **user},
        )

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
        """Close the connections."""
        self.pool.close()

    def _post(self, body: bytes, timeout: float) -> tuple[int, bytes]:
        ends = time.monotonic() + timeout
        try:
            response = self.pool.urlopen(
                "POST",
                self.path,
                body,
                retries=False,  # the client repeats requests of both protocols
                timeout=urllib3.Timeout(total=timeout),
                preload_content=False,
            )
            try:
                return response.status, self._read(response, ends)
            finally:
                response.close()  # a connection whose reply is complete is back in the pool
        except NameResolutionError as fault:
            if _errno(fault) == socket.EAI_AGAIN:
                raise Unavailable(_cause(fault)) from None
            raise FcisError(f"{self.url}: {_cause(fault)}") from None
        except SSLError as fault:
            raise FcisError(f"{self.url}: {_cause(fault)}") from None
        except HTTPError as fault:
            raise Unavailable(_cause(fault)) from None

    def _read(self, response: urllib3.BaseHTTPResponse, ends: float) -> bytes:
        """The body; a server that sends it in drops must be through with it by `ends`."""
        body = bytearray()
        while part := response.read1(CHUNK):
            body += part
            if len(body) > LARGEST_REPLY:
                raise FcisError(f"{self.url}: expected a reply of at most {LARGEST_REPLY} bytes")
            if time.monotonic() >= ends:
                raise Unavailable(f"only {len(body)} bytes of the reply came in time")
        return bytes(body)


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
            too_large = "larger than max" in text  # the channel's word, not the server's
            retry = {code.UNAVAILABLE, code.RESOURCE_EXHAUSTED, code.DEADLINE_EXCEEDED}
            if status in retry and not too_large:
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


def _cause(fault: HTTPError) -> str:
    """Why a request failed, without the name of the pool that urllib3 puts before it."""
    return str(fault.__cause__ or " ".join(map(str, fault.args)))


def _errno(fault: NameResolutionError) -> int | None:
    return fault.__cause__.errno if isinstance(fault.__cause__, OSError) else None
