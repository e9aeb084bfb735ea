"""Invalid requests, which a server must answer with errors."""

import base64
import http.client
import json
import struct
import zlib
from collections.abc import Callable
from urllib.parse import urlsplit

import grpc

from fcis_tf.serving.client import messages

BOMB_SIDE = 30_000
# The error for each kind of bad file; other images in its batch are not affected.
FILE_FAULTS = {
    "truncated JPEG": "damaged or truncated",
    "text file": "neither JPEG nor PNG",
    "zero bytes": "an empty file",
    "PNG bomb": f"{BOMB_SIDE} x {BOMB_SIDE} pixels; expected at most",
}
REQUEST_FAULTS = ("wrong key", "wrong type", "empty batch")


def bad_files(good: bytes) -> dict[str, bytes]:
    """A file for each of FILE_FAULTS; `good` is a JPEG."""
    return {
        "truncated JPEG": good[: len(good) // 2],
        "text file": b"This is not an image, whatever its name says.\n" * 20,
        "zero bytes": b"",
        "PNG bomb": png_bomb(BOMB_SIDE),
    }


def png_bomb(side: int) -> bytes:
    """A valid black PNG of side x side pixels, small as a file."""
    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    )


def rest_refusal(url: str, fault: str, file: bytes) -> str:
    """Send one of REQUEST_FAULTS over REST; returns the error text, "" if there is none."""
    value = {"b64": base64.b64encode(file).decode()}
    content = {
        "wrong key": {"inputs": {"image": [value]}},
        "wrong type": {"inputs": {"inputs": [1.5]}},
        "empty batch": {"instances": []},
    }[fault]
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.request("POST", "/v1/models/fcis:predict", json.dumps(content))
    reply = connection.getresponse()
    text = json.loads(reply.read()).get("error", "")
    connection.close()
    return text if reply.status == 400 else ""


def grpc_refusals(url: str) -> Callable[[str, bytes], str]:
    """The same over gRPC, on one channel."""
    call = grpc.insecure_channel(urlsplit(url).netloc).unary_unary(
        messages.PREDICT,
        request_serializer=messages.PredictRequest.SerializeToString,
        response_deserializer=messages.PredictResponse.FromString,
    )

    def refusal(fault: str, file: bytes) -> str:
        files = [] if fault == "empty batch" else [file]
        request = messages.predict_request("fcis", "compact", files)
        if fault == "wrong key":
            request.inputs[0].key = "image"
        if fault == "wrong type":
            tensor = request.inputs[0].value
            del tensor.string_val[:]
            tensor.dtype = 1
            tensor.float_val.append(1.5)
        try:
            call(request, timeout=60)
        except grpc.RpcError as error:
            return error.details() if error.code() is grpc.StatusCode.INVALID_ARGUMENT else ""
        return ""

    return refusal
