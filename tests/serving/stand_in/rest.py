"""The REST rules of TensorFlow Serving: rows, columns, base64 and error bodies."""

import base64
import binascii
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import tensorflow as tf

from tests.serving.stand_in.model import Model, Refused

HTTP = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 503,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
PATH = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(/versions/(?P<version>\d+))?(?P<what>:predict|/metadata)?"
)


def read_request(body: bytes, model: Model) -> tuple[str, dict[str, np.ndarray], str]:
    """Signature, inputs, and "row" or "column", of the body of a predict call.

    Raises:
        Refused: as the server does.
    """
    try:
        content = json.loads(body)
    except ValueError as fault:
        raise _invalid(f"JSON Parse error: {fault}") from None
    if not isinstance(content, dict):
        raise _invalid("JSON Value: Is not object")
    key = content.get("signature_name", "")
    if not isinstance(key, str):
        raise _invalid("JSON Value: Expecting string value for 'signature_name'")
    inputs = model.signature(key).inputs
    kinds = {name: tf.as_dtype(info.dtype) for name, info in inputs.items()}
    if "instances" in content and "inputs" in content:
        raise _invalid(
            "JSON Value: Not formatted correctly expecting only one of 'inputs' or 'instances'"
        )
    if "instances" in content:
        return key, _rows(content["instances"], kinds), "row"
    if "inputs" in content:
        return key, _columns(content["inputs"], kinds), "column"
    raise _invalid("Missing 'inputs' or 'instances' key")


def reply(found: dict[str, np.ndarray], form: str) -> bytes:
    """The body of an answer."""
    columns = {name: _said(value, name.endswith("_bytes")) for name, value in found.items()}
    if form == "column":
        only = next(iter(columns.values())) if len(columns) == 1 else columns
        return json.dumps({"outputs": only}).encode()
    if len(columns) == 1:
        return json.dumps({"predictions": next(iter(columns.values()))}).encode()
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return json.dumps({"predictions": rows}).encode()


def _rows(rows: Any, kinds: dict[str, tf.DType]) -> dict[str, np.ndarray]:
    if not isinstance(rows, list):
        raise _invalid("JSON Value: Excepting 'instances' to be an list/array")
    if not rows:
        raise _invalid("JSON Value: No values in 'instances' array")
    if not _is_named(rows[0]):
        if len(kinds) > 1:
            raise _invalid("instances is a plain list, but expecting list of objects")
        (name,) = kinds
        rows = [{name: row} for row in rows]
    columns: dict[str, list] = {name: [] for name in kinds}
    for place, row in enumerate(rows):
        where = f"Failed to process element: {place} of 'instances' list."
        if not _is_named(row):
            raise _invalid(f"Expecting object but got list at item {place} of input list")
        for name in row:
            if name not in kinds:
                raise _invalid(f"{where} JSON object: does not have named input: {name}")
        if set(row) != set(kinds):
            raise _invalid(f"{where} keys must be equal to: {','.join(sorted(kinds))}")
        for name, value in row.items():
            columns[name].append(value)
    return {name: _tensor(values, kinds[name]) for name, values in columns.items()}


def _columns(content: Any, kinds: dict[str, tf.DType]) -> dict[str, np.ndarray]:
    if not _is_named(content):
        if len(kinds) > 1:
            raise _invalid("inputs is a plain value/list, but expecting an object")
        (name,) = kinds
        content = {name: content}
    for name in kinds:
        if name not in content:
            raise _invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: _tensor(content[name], kind) for name, kind in kinds.items()}


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and set(value) != {"b64"}


def _tensor(value: Any, kind: tf.DType) -> np.ndarray:
    if kind != tf.string:
        flat = _leaves(value)
        if any(isinstance(leaf, str | dict) or leaf is None for leaf in flat):
            raise _invalid(f"JSON Value is not of type {kind.name}")
        whole = kind.is_integer
        if whole and any(isinstance(leaf, float) or not 0 <= leaf <= kind.max for leaf in flat):
            raise _invalid(f"JSON Value is out of range or not of type {kind.name}")
        try:
            return np.array(value, kind.as_numpy_dtype)
        except ValueError:
            raise _invalid("Encountered list at unexpected level; sizes differ") from None

    def bytes_of(one: Any) -> Any:
        if isinstance(one, list):
            return [bytes_of(item) for item in one]
        if isinstance(one, str):
            return one.encode()
        if isinstance(one, dict) and set(one) == {"b64"} and isinstance(one["b64"], str):
            try:
                return base64.b64decode(one["b64"], validate=True)
            except binascii.Error:
                raise _invalid("JSON Value: Unable to base64 decode") from None
        raise _invalid("JSON Value is not of type string")

    decoded = bytes_of(value)
    if isinstance(decoded, list) and not any(isinstance(one, list) for one in decoded):
        texts = np.empty(len(decoded), object)
        texts[:] = decoded
        return texts
    return np.array(decoded, object)


def _leaves(value: Any) -> list:
    if isinstance(value, list):
        return [leaf for one in value for leaf in _leaves(one)]
    return [value]


def _said(value: np.ndarray, binary: bool) -> Any:
    if value.dtype != object:
        return value.tolist()

    def text(one: Any) -> Any:
        if isinstance(one, list):
            return [text(item) for item in one]
        return {"b64": base64.b64encode(one).decode()} if binary else one.decode()

    return text(value.tolist())


def _invalid(text: str) -> Refused:
    return Refused("INVALID_ARGUMENT", text)


class Handler(BaseHTTPRequestHandler):
    """One connection; the server is a `Server`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Server"

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(lambda: self._post(body))

    def log_message(self, *_: Any) -> None:
        """Nothing: the load test makes 10,000 requests."""

    def _answer(self, make: Any) -> None:
        try:
            status, body = 200, make()
        except Refused as fault:
            status, body = HTTP.get(fault.code, 500), json.dumps({"error": str(fault)}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _route(self) -> str:
        found, model = PATH.fullmatch(self.path), self.server.model
        if not found:
            raise _invalid(f"Malformed request: {self.command} {self.path}")
        if found["model"] != model.name or int(found["version"] or model.version) != model.version:
            raise Refused("NOT_FOUND", f"Servable not found for request: {self.path}")
        return found["what"] or ""

    def _get(self) -> bytes:
        what, model = self._route(), self.server.model
        if what == ":predict":
            raise _invalid(f"Malformed request: GET {self.path}")
        if what == "/metadata":
            signatures = {
                key: {
                    side: {n: tf.as_dtype(i.dtype).name for n, i in getattr(one, side).items()}
                    for side in ("inputs", "outputs")
                }
                for key, one in model.signatures.items()
            }
            spec = {"name": model.name, "version": str(model.version)}
            return json.dumps(
                {"model_spec": spec, "metadata": {"signature_def": signatures}}
            ).encode()
        state = {
            "version": str(model.version),
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return json.dumps({"model_version_status": [state]}).encode()

    def _post(self, body: bytes) -> bytes:
        if self._route() != ":predict":
            raise _invalid(f"Malformed request: POST {self.path}")
        key, inputs, form = read_request(body, self.server.model)
        return reply(self.server.model.predict(key, inputs), form)


class Server(ThreadingHTTPServer):
    """Serves `model` over HTTP, a thread for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, model: Model, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.model = model
