import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from fcis_tf.serving.client import messages
from fcis_tf.serving.export.package import write_warm_up


def test_a_request_is_one_of_tensorflow_serving():
    ours = messages.predict_request("net", "compact", [b"\xff\x00", b"", b"three"])
    theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
    assert (theirs.model_spec.name, theirs.model_spec.signature_name) == ("net", "compact")
    assert list(theirs.inputs) == ["inputs"]
    assert tf.make_ndarray(theirs.inputs["inputs"]).tolist() == [b"\xff\x00", b"", b"three"]


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.full((3, 2), 7, np.int32),
        np.array([[1, 2], [3, 4]], np.uint8),
        np.array([5], np.int64),
        np.array([True, False]),
        np.zeros((0, 4), np.float32),
        np.array([[b"a", b""], [b"\x00\xff", b"d"]], object),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}",
)
@pytest.mark.parametrize("as_content", [True, False])
def test_a_reply_of_tensorflow_serving_is_read(value, as_content):
    theirs = predict_pb2.PredictResponse()
    tensor = tf.make_tensor_proto(value)
    if not as_content and value.dtype != object:
        tensor = tensor_pb2.TensorProto(dtype=tensor.dtype, tensor_shape=tensor.tensor_shape)
        field = {
            "float32": "float_val",
            "int64": "int64_val",
            "bool": "bool_val",
        }.get(value.dtype.name, "int_val")
        kept = value.ravel().tolist()
        while len(kept) > 1 and kept[-1] == kept[-2]:
            kept.pop()  # a last value that repeats is sent once
        getattr(tensor, field).extend(kept)
    theirs.outputs["x"].CopyFrom(tensor)
    ours = messages.PredictResponse.FromString(theirs.SerializeToString())
    found = messages.outputs(ours)["x"]
    assert found.dtype == value.dtype and found.shape == value.shape
    np.testing.assert_array_equal(found, value)


def test_warm_up_records_are_prediction_logs(tmp_path):
    write_warm_up(tmp_path / "warm", [(20, 30), (30, 20)])
    records = list(tf.data.TFRecordDataset(str(tmp_path / "warm")).as_numpy_iterator())
    seen = set()
    for record in records:
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        files = tf.make_ndarray(request.inputs["inputs"])
        shapes = {tuple(tf.io.decode_image(file).shape) for file in files}
        assert len(shapes) == 1
        seen.add((request.model_spec.signature_name, len(files), *shapes))
    sides = [(20, 30, 3), (30, 20, 3)]
    signatures = ("serving_default", "compact")
    assert seen == {(key, n, side) for key in signatures for n in (1, 2) for side in sides}
