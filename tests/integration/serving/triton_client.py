"""Asks a server with tritonclient, unmodified, over gRPC and HTTP: python triton_client.py GRPC HTTP MODEL PICTURE.

A program of its own: tritonclient's messages have the names of the server's, and a process may have each name once.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

GRPC, HTTP, MODEL, PICTURE = sys.argv[1:]
CONTENTS = np.array([Path(PICTURE).read_bytes()] * 3, object)


def given(module, shape):
    tensor = module.InferInput("image_bytes", shape, "BYTES")
    tensor.set_data_from_numpy(CONTENTS.reshape(shape))
    return [tensor]


def ask(module, address):
    client = module.InferenceServerClient(address)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("none")
    client.get_server_metadata()
    client.get_model_metadata(MODEL)
    client.get_model_config(MODEL)
    client.get_model_repository_index()
    answers = [client.infer(MODEL, given(module, shape), request_id="7", timeout=20_000_000).as_numpy("probabilities")
               for shape in ([3], [3, 1])]
    np.testing.assert_array_equal(*answers)
    best = module.InferRequestedOutput("probabilities", class_count=2)
    assert client.infer(MODEL, given(module, [3]), outputs=[best]).as_numpy("probabilities").shape == (3, 2)
    try:
        client.infer("none", given(module, [3]))
    except InferenceServerException as error:
        assert "no model 'none'" in error.message()  # noqa: PT017
    client.unload_model(MODEL)
    assert not client.is_model_ready(MODEL)
    client.load_model(MODEL)
    assert client.is_model_ready(MODEL)
    return answers[0]


def packed(encoding):
    client = tritonclient.http.InferenceServerClient(HTTP)
    return client.infer(MODEL, given(tritonclient.http, [3]), request_compression_algorithm=encoding,
                        response_compression_algorithm=encoding).as_numpy("probabilities")


async def asynchronously():
    async with tritonclient.grpc.aio.InferenceServerClient(GRPC) as grpc, \
            tritonclient.http.aio.InferenceServerClient(HTTP) as http:
        return [(await client.infer(MODEL, given(module, [3]))).as_numpy("probabilities")
                for client, module in ((grpc, tritonclient.grpc), (http, tritonclient.http))]


answers = [ask(tritonclient.grpc, GRPC), ask(tritonclient.http, HTTP), packed("gzip"), packed("deflate"),
           *asyncio.run(asynchronously())]
for answer in answers[1:]:
    np.testing.assert_array_equal(answer, answers[0])
print(answers[0].shape)
