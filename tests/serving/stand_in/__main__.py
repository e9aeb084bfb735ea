"""A test double of tensorflow_model_server, for tests of clients and exports.

It speaks gRPC through the stubs of tensorflow-serving-api and REST by the rules of TensorFlow
Serving, runs the SavedModel in a session, batches, and replays the warm-up requests. When it is
ready it prints one line of JSON with its ports.

pip install --no-deps tensorflow-serving-api
python -m tests.serving.stand_in --base export [--batching export/batching_parameters.txt]
"""

import argparse
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fcis_tf.allocator import keep_freed_memory

# The model must not depend on these packages: importing them fails from here on.
sys.modules |= dict.fromkeys(("keras", "tf_keras", "fcis_tf"))

import grpc  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving.stand_in.model import Model, Refused  # noqa: E402
from tests.serving.stand_in.rest import Server  # noqa: E402

MESSAGE_LIMIT = 256 << 20


class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    """PredictionService.Predict."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer a PredictRequest."""
        try:
            _check_model(self.model, request.model_spec)
            inputs = {name: _array(name, value) for name, value in request.inputs.items()}
            key, wanted = request.model_spec.signature_name, list(request.output_filter)
            found = self.model.predict(key, inputs, wanted)
        except Refused as fault:
            context.abort(
                getattr(grpc.StatusCode, fault.code, grpc.StatusCode.INTERNAL), str(fault)
            )
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.signature_name = self.model.name, key
        response.model_spec.version.value = self.model.version
        for name, value in found.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


class Status(model_service_pb2_grpc.ModelServiceServicer):
    """ModelService.GetModelStatus, which health checks call."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer a GetModelStatusRequest."""
        try:
            _check_model(self.model, request.model_spec)
        except Refused as fault:
            context.abort(getattr(grpc.StatusCode, fault.code), str(fault))
        response = get_model_status_pb2.GetModelStatusResponse()
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        response.model_version_status.add(version=self.model.version, state=available)
        return response


def _check_model(model: Model, spec: Any) -> None:
    if spec.name != model.name:
        raise Refused("NOT_FOUND", f"Servable not found for request: Latest({spec.name})")
    if spec.HasField("version") and spec.version.value != model.version:
        wanted = f"Specific({spec.name}, {spec.version.value})"
        raise Refused("NOT_FOUND", f"Servable not found for request: {wanted}")


def _array(name: str, value: Any) -> Any:
    try:
        return tf.make_ndarray(value)
    except (TypeError, ValueError) as fault:
        raise Refused("INVALID_ARGUMENT", f"tensor parsing error: {name}: {fault}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="folder of version folders")
    parser.add_argument("--name", default="fcis", help="of the model")
    parser.add_argument("--batching", type=Path, help="file of batching parameters")
    parser.add_argument("--port", type=int, default=0, help="of gRPC; 0 takes a free one")
    parser.add_argument("--rest-port", type=int, default=0, help="of REST; 0 takes a free one")
    options = parser.parse_args()
    keep_freed_memory()
    model = Model(options.name, options.base, options.batching)
    rest = Server(model, options.rest_port)
    limits = [(f"grpc.max_{way}_message_length", MESSAGE_LIMIT) for way in ("receive", "send")]
    server = grpc.server(ThreadPoolExecutor(32), options=limits)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(model), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Status(model), server)
    port = server.add_insecure_port(f"127.0.0.1:{options.port}")
    server.start()
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    ready = {"grpc": port, "rest": rest.server_port, "version": model.version}
    print(json.dumps(ready | {"warm_up_requests": model.warmed}), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
