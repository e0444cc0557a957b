"""Calls Predict of voc-serve with the protos of TensorFlow Serving, as any of its clients does.

    pip install tensorflow-serving-api                         # brings TensorFlow
    python examples/python/with_tensorflow_serving.py 127.0.0.1:8500 voc a.jpg     # voc: name of the model
"""

import sys
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


def main(address: str, model: str, *files: str) -> None:
    options = [("grpc.max_send_message_length", 64 * 2**20)]
    with grpc.insecure_channel(address, options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = "serving_default"
        request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([Path(file).read_bytes() for file in files]))
        response = stub.Predict(request, timeout=10)
    probabilities = tf.make_ndarray(response.outputs["probabilities"])  # float32 [files, labels]
    for file, row in zip(files, probabilities, strict=True):
        print(f"{file}: version {response.model_spec.version.value}: {' '.join(f'{one:.3f}' for one in row)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
