"""Those messages of TensorFlow Serving's prediction service that a client needs.

They are declared here with the field numbers of tensorflow_serving/apis, because the package that
provides them requires the GPU build of TensorFlow. A client then needs no TensorFlow.
"""

from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PREDICT = "/tensorflow.serving.PredictionService/Predict"
DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 9: np.int64, 10: np.bool_}
STRING = 7  # DT_STRING

_INT64, _INT32, _STRING, _MESSAGE, _BYTES = 3, 5, 9, 11, 12
_ONE, _MANY = 1, 3
# message -> field: (number, type, label); a string as type is the name of a message.
_FIELDS: dict[str, dict[str, tuple[int, int | str, int]]] = {
    "Dim": {"size": (1, _INT64, _ONE)},
    "Shape": {"dim": (2, "Dim", _MANY)},
    "Tensor": {
        "dtype": (1, _INT32, _ONE),
        "tensor_shape": (2, "Shape", _ONE),
        "tensor_content": (4, _BYTES, _ONE),
        "float_val": (5, 2, _MANY),
        "double_val": (6, 1, _MANY),
        "int_val": (7, _INT32, _MANY),
        "string_val": (8, _BYTES, _MANY),
        "int64_val": (10, _INT64, _MANY),
        "bool_val": (11, 8, _MANY),
    },
    "Version": {"value": (1, _INT64, _ONE)},
    "ModelSpec": {
        "name": (1, _STRING, _ONE),
        "version": (2, "Version", _ONE),
        "signature_name": (3, _STRING, _ONE),
    },
    # On the wire a map is a list of pairs.
    "Pair": {"key": (1, _STRING, _ONE), "value": (2, "Tensor", _ONE)},
    "PredictRequest": {
        "model_spec": (1, "ModelSpec", _ONE),
        "inputs": (2, "Pair", _MANY),
        "output_filter": (3, _STRING, _MANY),
    },
    "PredictResponse": {"outputs": (1, "Pair", _MANY), "model_spec": (2, "ModelSpec", _ONE)},
    "PredictLog": {"request": (1, "PredictRequest", _ONE)},
    "PredictionLog": {"predict_log": (6, "PredictLog", _ONE)},
}


def _declare() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="wire.proto", package="fcis", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, label) in fields.items():
            one = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                one.type, one.type_name = _MESSAGE, f".fcis.{kind}"
            else:
                one.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"fcis.{name}"))
        for name in _FIELDS
    }


_CLASSES = _declare()
PredictRequest = _CLASSES["PredictRequest"]
PredictResponse = _CLASSES["PredictResponse"]
PredictionLog = _CLASSES["PredictionLog"]


def predict_request(model: str, signature: str, files: list[bytes]) -> Any:
    """A PredictRequest of image files for `signature` of `model`."""
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    inputs = request.inputs.add(key="inputs").value
    inputs.dtype = STRING
    inputs.tensor_shape.dim.add(size=len(files))
    inputs.string_val.extend(files)
    return request


def outputs(response: Any) -> dict[str, np.ndarray]:
    """The tensors of a PredictResponse; strings as objects of bytes."""
    return {pair.key: array(pair.value) for pair in response.outputs}


def array(tensor: Any) -> np.ndarray:
    """A Tensor message as an array.

    Raises:
        ValueError: a type that is not used by the outputs of an exported model.
    """
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype == STRING:
        texts = np.empty(len(tensor.string_val), object)
        texts[:] = list(tensor.string_val)
        return texts.reshape(shape)
    if tensor.dtype not in DTYPES:
        raise ValueError(f"tensor of type {tensor.dtype}; expected one of {sorted(DTYPES)}")
    kind = DTYPES[tensor.dtype]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, kind).reshape(shape)
    fields = ("float_val", "double_val", "int_val", "int64_val", "bool_val")
    values = next((list(v) for v in (getattr(tensor, f) for f in fields) if v), [0])
    # A repeated last value is sent once.
    size = int(np.prod(shape, dtype=np.int64))
    filled: np.ndarray = np.full(size, values[-1], kind)
    filled[: len(values)] = values[:size]
    return filled.reshape(shape)
