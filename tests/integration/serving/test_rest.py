"""TensorFlow Serving's REST API, as its documentation (api_rest.md) has it."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tensorflow as tf
from google.protobuf.json_format import ParseDict
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, prediction_service_pb2_grpc

from tests.integration.serving.conftest import Server, picture
from tests.integration.serving.test_prediction_service import example, request
from tests.integration.serving.tiny_model import LABELS, SIZE

LIMIT = 4 * 2**20
"""--max-message-mb of the fixture `server`."""


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # no proxy of this machine's
        yield session


@pytest.fixture
def url(server: Server) -> str:
    return f"{server.http}/v1/models/tiny"


def b64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def error(response: requests.Response) -> str:
    """The sentence of an answer that is a refusal."""
    assert response.headers["Content-Type"].startswith("application/json")
    answer = response.json()
    assert set(answer) == {"error"}
    return str(answer["error"])


def given(signature: str, pictures: list[bytes]) -> tuple[str, Any, list[Any]]:
    """Name of a signature's input, its value for TensorFlow, and the same as a list of JSON values."""
    images = np.stack([picture(seed, 11, 7) for seed in range(3)])
    tensors = np.random.default_rng(0).normal(0, 50, (3, SIZE, SIZE, 3)).astype(np.float32)
    examples = [example(content) for content in pictures]
    name, value, values = {
        "serving_default": ("image_bytes", pictures, list(map(b64, pictures))),
        "predict_images": ("images", images, images.tolist()),
        "predict_tensors": ("inputs", tensors, tensors.tolist()),
        "preprocess": ("image_bytes", pictures, list(map(b64, pictures))),
        "classify": ("inputs", examples, list(map(b64, examples))),
    }[signature]
    return name, value, values


SIGNATURES = ("serving_default", "predict_images", "predict_tensors", "preprocess", "classify")


@pytest.mark.parametrize("form", ["rows", "rows by name", "column", "column by name"])
@pytest.mark.parametrize("signature", SIGNATURES)
def test_every_signature_answers_as_the_saved_model_does(http: requests.Session, url: str, saved_model: Any,
                                                         pictures: list[bytes], signature: str, form: str) -> None:
    name, value, values = given(signature, pictures)
    body = {"rows": {"instances": values}, "rows by name": {"instances": [{name: one} for one in values]},
            "column": {"inputs": values}, "column by name": {"inputs": {name: values}}}[form]
    response = http.post(f"{url}:predict", json={"signature_name": signature, **body}, timeout=20)
    assert response.status_code == 200, response.text
    (answer,) = response.json().values()
    assert set(response.json()) == {"predictions" if form.startswith("rows") else "outputs"}
    expected = saved_model.signatures[signature](**{name: tf.constant(value)})
    for output, tensor in expected.items():
        if len(expected) == 1:
            found = answer
        else:
            found = [row[output] for row in answer] if form.startswith("rows") else answer[output]
        if tensor.dtype == tf.string:
            np.testing.assert_array_equal(found, tensor.numpy().astype(str))
        else:
            np.testing.assert_allclose(np.array(found, np.float32), tensor.numpy(), rtol=1e-5, atol=1e-6)


def test_a_column_of_one_picture_needs_no_list(http: requests.Session, url: str, pictures: list[bytes]) -> None:
    listed = http.post(f"{url}:predict", json={"inputs": [b64(pictures[0])]}, timeout=20)
    for inputs in (b64(pictures[0]), {"image_bytes": b64(pictures[0])}):
        response = http.post(f"{url}:predict", json={"inputs": inputs}, timeout=20)
        assert (response.status_code, response.content) == (200, listed.content)


def test_the_numbers_are_the_very_float32_that_grpc_answers(http: requests.Session, url: str, server: Server) -> None:
    tensor = np.random.default_rng(1).normal(0, 50, (1, SIZE, SIZE, 3)).astype(np.float32)
    body = {"signature_name": "predict_tensors", "inputs": tensor.tolist()}
    rest = http.post(f"{url}:predict", json=body, timeout=20).json()["outputs"]
    stub = prediction_service_pb2_grpc.PredictionServiceStub(server.channel())
    outputs = stub.Predict(request("predict_tensors", inputs=tensor), timeout=20).outputs
    for output in ("probabilities", "logits"):
        np.testing.assert_array_equal(np.float32(rest[output]), tf.make_ndarray(outputs[output]))


def test_classify_answers_every_label_with_its_score(http: requests.Session, url: str, saved_model: Any,
                                                     pictures: list[bytes]) -> None:
    examples = [{"image/encoded": b64(pictures[0])}, {"image/encoded": [b64(pictures[1])], "caption": "sea"}, {}]
    response = http.post(f"{url}:classify", timeout=20,
                         json={"signature_name": "classify", "context": {"image/encoded": b64(pictures[2])},
                               "examples": examples})
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert [[label for label, _ in row] for row in results] == [list(LABELS)] * 3
    serialized = tf.constant([example(content) for content in pictures[:3]])
    expected = saved_model.signatures["classify"](inputs=serialized)["scores"].numpy()
    np.testing.assert_allclose([[score for _, score in row] for row in results], expected, rtol=1e-5, atol=1e-6)


def test_curl_is_enough(url: str, pictures: list[bytes], tmp_path: Path) -> None:
    """Its Content-Type is that of a form, and for a large body it waits for 100 Continue."""
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"instances": [b64(pictures[0])], "padding": " " * 1_500_000}))
    done = subprocess.run(["curl", "-sS", "--noproxy", "*", "-d", f"@{body}", f"{url}:predict"], capture_output=True,
                          timeout=30, check=True)
    assert len(json.loads(done.stdout)["predictions"][0]) == len(LABELS)
    assert done.stdout.endswith(b"\n")


def test_the_status_is_tensorflow_servings_message_in_json(http: requests.Session, url: str) -> None:
    for path in ("", "/versions/10"):
        answer = http.get(url + path, timeout=20)
        assert answer.json() == {"model_version_status": [
            {"version": "10", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]}
        ParseDict(answer.json(), get_model_status_pb2.GetModelStatusResponse())


def test_the_metadata_are_the_signatures_of_the_saved_model(http: requests.Session, url: str, server: Server) -> None:
    answer = http.get(f"{url}/versions/10/metadata", timeout=20).json()
    assert answer["model_spec"] == {"name": "tiny", "signature_name": "", "version": "10"}
    found = ParseDict(answer["metadata"]["signature_def"], get_model_metadata_pb2.SignatureDefMap())
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "tiny"
    stub = prediction_service_pb2_grpc.PredictionServiceStub(server.channel())
    expected = get_model_metadata_pb2.SignatureDefMap()
    assert stub.GetModelMetadata(asked, timeout=20).metadata["signature_def"].Unpack(expected)
    assert dict(found.signature_def) == dict(expected.signature_def)
    inputs = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["image_bytes"]
    assert (inputs["dtype"], inputs["tensor_shape"]["dim"][0]["size"]) == ("DT_STRING", "-1")


@pytest.mark.parametrize(("method", "path", "body", "code", "message"), [
    ("POST", "/v1/models/resnet:predict", {"instances": [b64(b"x")]}, 404, "no model 'resnet'; this server has 'tiny'"),
    ("POST", "/v1/models/tiny/versions/9:predict", {"instances": [b64(b"x")]}, 404,
     "model 'tiny' has no version 9; this server has 10"),
    ("POST", "/v1/models/tiny/labels/best:classify", {"examples": [{}]}, 404,
     "model 'tiny' has no version with the label 'best'"),
    ("GET", "/v1/models/resnet", None, 404, "no model 'resnet'; this server has 'tiny'"),
    ("GET", "/v1/models/tiny/versions/9", None, 404, "model 'tiny' has no version 9; this server has 10"),
    ("GET", "/v1/models/tiny/versions/9/metadata", None, 404, "model 'tiny' has no version 9"),
    ("GET", "/v1/models/tiny/labels/best", None, 404, "no version with the label 'best'"),
    ("GET", "/v1/models/tiny/versions/best", None, 400, "'best' in the URL is not a version"),
    ("POST", "/v1/models/tiny:predict", {"signature_name": "detect", "instances": [b64(b"x")]}, 404,
     "model 'tiny' has no signature 'detect'; it has classify, predict_images"),
    ("POST", "/v1/models/tiny:predict", {"instances": [b64(b"no picture")]}, 400,
     "instances[0] is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture: 10 bytes that start with 'no pictu'"),
    ("POST", "/v1/models/tiny:predict", {"signature_name": "classify", "instances": [b64(b"\xff")]}, 400,
     "instances[0] is not a serialized tf.Example"),
    ("POST", "/v1/models/tiny:predict", {"instances": ["x"]}, 400, "instances[0] is a plain string"),
    ("POST", "/v1/models/tiny:classify", {"signature_name": "preprocess", "examples": [{}]}, 400,
     "signature 'preprocess' is not for Classify: name 'classify' or none, or call Predict"),
    ("POST", "/v1/models/tiny:classify", {"examples": [{"image/encoded": b64(b"no")}]}, 400,
     "examples[0] is not a JPEG"),
    ("POST", "/v1/models/tiny:regress", {"examples": [{}]}, 501, "this model classifies and has no regression"),
    ("POST", "/v1/models/resnet:regress", {"examples": [{}]}, 404, "no model 'resnet'"),
    ("POST", "/v1/models/tiny:predict", {"instances": [b64(b"x")] * 41}, 400, "up to 40 pictures (`queue_size`)"),
    ("GET", "/v1/models/tiny:predict", None, 405, "/v1/models/tiny:predict takes POST, not GET"),
    ("OPTIONS", "/v2/models/tiny/infer", {}, 405, "/v2/models/tiny/infer takes POST, not OPTIONS"),
    ("POST", "/v1/models/tiny", {}, 405, "/v1/models/tiny takes GET, not POST"),
    ("GET", "/v3/health", None, 404, "there is no /v3/health here; there is: POST /v1/models/NAME"),
])
def test_a_refusal_is_a_sentence_and_a_status(http: requests.Session, server: Server, method: str, path: str, body: Any,
                                             code: int, message: str) -> None:
    response = http.request(method, server.http + path, json=body, timeout=20)
    assert response.status_code == code, response.text
    assert message in error(response)
    assert response.headers["x-request-id"]
    assert (code == 405) == ("Allow" in response.headers)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{\"instances\": [NaN]}", b"[" * 50_000, b"\xff\xfe{}"])
def test_a_body_that_is_no_json_object_is_refused(http: requests.Session, url: str, body: bytes) -> None:
    for verb in ("predict", "classify"):
        response = http.post(f"{url}:{verb}", data=body, timeout=20)
        assert response.status_code == 400
        assert "the body" in error(response)


def chunks(size: int) -> Iterator[bytes]:
    """A body whose length no header tells."""
    yield b"{\"instances\": [\""
    for _ in range(size // 65536 + 1):
        yield b"A" * 65536
    yield b"\"]}"


def test_a_body_beyond_the_limit_is_refused_and_the_limit_named(http: requests.Session, url: str) -> None:
    for body in (b" " * (LIMIT + 1), chunks(LIMIT)):
        response = http.post(f"{url}:predict", data=body, timeout=20)
        assert response.status_code == 413
        assert error(response) == (f"the body is larger than the {LIMIT} bytes that this server takes "
                                   "(`max_message_mb`): send fewer pictures in one call")
    fits = json.dumps({"instances": ["x"]}).encode()
    assert http.post(f"{url}:predict", data=fits.ljust(LIMIT), timeout=20).status_code == 400


def test_a_body_may_be_gzip(http: requests.Session, url: str, pictures: list[bytes]) -> None:
    body = json.dumps({"instances": [b64(pictures[0])]}).encode()
    plain = http.post(f"{url}:predict", data=body, timeout=20)
    zipped = http.post(f"{url}:predict", data=gzip.compress(body), headers={"Content-Encoding": "gzip"}, timeout=20)
    assert (zipped.status_code, zipped.content) == (200, plain.content)


@pytest.mark.parametrize(("encoding", "body", "code", "message"), [
    ("gzip", gzip.compress(b" " * 2**26, 1), 413, f"larger than the {LIMIT} bytes"),
    ("gzip", b"{}", 400, "the body is not packed as Content-Encoding says"),
    ("gzip", gzip.compress(b"{}")[:-4], 400, "the packed body ends too early"),
    ("br", b"{}", 415, "Content-Encoding 'br' is not supported: send gzip, deflate or none"),
], ids=["a bomb of 64 MiB", "not gzip", "cut off", "another encoding"])
def test_bad_encodings_are_refused(http: requests.Session, url: str, encoding: str, body: bytes, code: int,
                                   message: str) -> None:
    response = http.post(f"{url}:predict", data=body, headers={"Content-Encoding": encoding}, timeout=20)
    assert response.status_code == code
    assert message in error(response)


@pytest.mark.parametrize("request_line", ["GET /healthz HTTP/1.1", "GET /none HTTP/1.1", "not HTTP at all",
                                          "GET / HTTP/1.1\r\nExpect: x"])
def test_no_answer_names_the_software(server: Server, request_line: str) -> None:
    host, port = server.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(f"{request_line}\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = client.makefile("rb").read().lower()
    assert answer.startswith(b"http/1.")
    assert b"\r\nserver:" not in answer
    assert b"aiohttp" not in answer
    assert b"python" not in answer


def test_a_connection_is_used_again_also_after_a_refusal(server: Server, pictures: list[bytes]) -> None:
    import http.client

    connection = http.client.HTTPConnection(server.http.removeprefix("http://"), timeout=20)
    connection.connect()
    port = connection.sock.getsockname()[1]
    good, bad = {"instances": [b64(pictures[0])]}, {"instances": [3]}
    for body, code in ((good, 200), (bad, 400), (good, 200)):
        connection.request("POST", "/v1/models/tiny:predict", json.dumps(body))
        response = connection.getresponse()
        response.read()
        assert (response.status, connection.sock.getsockname()[1]) == (code, port)
    connection.close()


def test_health_and_metrics_are_for_probes_and_prometheus(http: requests.Session, server: Server) -> None:
    health = http.get(f"{server.http}/healthz", timeout=20)
    assert (health.status_code, health.text) == (200, "SERVING\n")
    for path in ("/metrics", "/monitoring/prometheus/metrics"):
        page = http.get(server.http + path, timeout=20)
        assert page.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert ":tensorflow:serving:request_count" in page.text
