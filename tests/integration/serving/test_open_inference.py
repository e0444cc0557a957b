"""The Open Inference Protocol, as the clients of KServe and Triton speak it, on both ports; pages of other origins."""

from __future__ import annotations

import base64
import gzip
import http.server
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from serving.v2 import open_inference_pb2 as messages
from serving.v2 import open_inference_pb2_grpc
from tests.integration.serving.conftest import Server, Start, jpeg, picture, until
from tests.integration.serving.secured import TOKEN, Files
from tests.unit.serving.test_tracing import Collector, attributes

JSON_LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder that is served as another origin, and that origin."""
    folder = tmp_path_factory.mktemp("site")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    """What the traces of `changing` are sent to, and its address."""
    service, web = Collector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(service, web)
    port = web.add_insecure_port("127.0.0.1:0")
    web.start()
    yield service, f"http://127.0.0.1:{port}"
    web.stop(None).wait()


@pytest.fixture(scope="module")
def changing(model: Path, site: tuple[Path, str], collector: tuple[Collector, str],
             tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose models may be loaded and unloaded: `tiny` is served, `other` is beside it."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(model, folder / "tiny")
    shutil.copytree(model / "9", folder / "other" / "1")
    starter = Start(tmp_path_factory.mktemp("changing"))
    yield starter(folder / "tiny", "--models-root", folder, "--allow-reload", "--cors-origin", "https://app.example",
                  "--cors-origin", site[1], "--trace-to", collector[1]).wait_until_ready()
    starter.end_all()


def stub(server: Server) -> Any:
    return open_inference_pb2_grpc.GRPCInferenceServiceStub(server.channel())  # type: ignore[no-untyped-call]


def tensor(name: str, datatype: str, shape: list[int], **contents: Any) -> Any:
    return messages.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, contents=contents)


def infer(server: Server, *inputs: Any, **fields: Any) -> Any:
    return stub(server).ModelInfer(messages.ModelInferRequest(model_name="tiny", inputs=inputs, **fields), timeout=20)


def strings(*contents: bytes) -> bytes:
    """The binary form of BYTES."""
    return b"".join(struct.pack("<I", len(content)) + content for content in contents)


def post(server: Server, path: str, body: Any, **headers: str) -> requests.Response:
    return requests.post(f"{server.http}{path}", data=body if isinstance(body, bytes) else json.dumps(body),
                         headers=headers, timeout=20)


def in_json(contents: list[bytes], **more: Any) -> dict[str, Any]:
    """A body with images as JSON has them."""
    return {"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [len(contents)],
                        "data": [base64.b64encode(content).decode() for content in contents]}], **more}


def in_binary(contents: list[bytes], **more: Any) -> tuple[bytes, dict[str, str]]:
    """A body with images in binary form, and its headers."""
    raw = strings(*contents)
    head = json.dumps({"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [len(contents), 1],
                                   "parameters": {"binary_data_size": len(raw)}}], **more}).encode()
    return head + raw, {JSON_LENGTH: str(len(head))}


def read_outputs(response: requests.Response) -> dict[str, Any]:
    """Name → array of float32, whichever way the server wrote them."""
    response.raise_for_status()
    length = int(response.headers.get(JSON_LENGTH, len(response.content)))
    content, outputs = json.loads(response.content[:length]), {}
    for output in content["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        values = np.frombuffer(response.content[length:length + size], "<f4") if size else np.float32(output["data"])
        outputs[output["name"]] = values.reshape(output["shape"])
        length += size
    return outputs


def expected(saved_model: Any, pictures: list[bytes]) -> Any:
    return saved_model.signatures["serving_default"](image_bytes=np.array(pictures, object))["probabilities"].numpy()


def test_grpc_answers_typed_and_raw_tensors_in_their_form(server: Server, saved_model: Any,
                                                         pictures: list[bytes]) -> None:
    right = expected(saved_model, pictures)
    typed = infer(server, tensor("image_bytes", "BYTES", [5], bytes_contents=pictures), id="seven")
    assert (typed.model_name, typed.model_version, typed.id) == ("tiny", "10", "seven")
    assert [(output.name, output.datatype, list(output.shape)) for output in typed.outputs] == [
        ("probabilities", "FP32", [5, 20]), ("logits", "FP32", [5, 20])]
    np.testing.assert_allclose(np.reshape(typed.outputs[0].contents.fp32_contents, (5, 20)), right, atol=1e-6)
    raw = infer(server, tensor("image_bytes", "BYTES", [5, 1]), raw_input_contents=[strings(*pictures)])
    np.testing.assert_allclose(np.frombuffer(raw.raw_output_contents[0], "<f4").reshape(5, 20), right, atol=1e-6)
    assert not raw.outputs[0].contents.fp32_contents


def test_pixels_and_prepared_inputs_are_taken_too(server: Server, saved_model: Any) -> None:
    image, inputs = picture(1)[None], np.random.default_rng(2).normal(size=(2, 8, 8, 3)).astype(np.float32)
    for name, datatype, array, signature in (("images", "UINT8", image, "predict_images"),
                                             ("inputs", "FP32", inputs, "predict_tensors")):
        right = saved_model.signatures[signature](**{name: array})["probabilities"].numpy()
        field = {"UINT8": "uint_contents", "FP32": "fp32_contents"}[datatype]
        typed = infer(server, tensor(name, datatype, list(array.shape), **{field: array.ravel().tolist()}))
        raw = infer(server, tensor(name, datatype, list(array.shape)), raw_input_contents=[array.tobytes()])
        over_http = read_outputs(post(server, "/v2/models/tiny/infer", {"inputs": [
            {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.tolist()}]}))
        for values in (typed.outputs[0].contents.fp32_contents, np.frombuffer(raw.raw_output_contents[0], "<f4"),
                       over_http["probabilities"]):
            np.testing.assert_allclose(np.reshape(values, right.shape), right, atol=1e-6)


def test_http_takes_and_gives_json_and_binary_tensors_packed_or_not(server: Server, saved_model: Any,
                                                                    pictures: list[bytes]) -> None:
    right = expected(saved_model, pictures)
    body, headers = in_binary(pictures, parameters={"binary_data_output": True})
    mixed = {"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "logits"}]}
    for sent, more in ((json.dumps(in_json(pictures)).encode(), {}), (body, headers), in_binary(pictures, **mixed),
                       (json.dumps(in_json(pictures, **mixed)).encode(), {}),
                       (gzip.compress(body), {**headers, "Content-Encoding": "gzip"}),
                       (zlib.compress(body), {**headers, "Content-Encoding": "deflate"})):
        response = post(server, "/v2/models/tiny/versions/10/infer", sent, **more)
        np.testing.assert_allclose(read_outputs(response)["probabilities"], right, atol=1e-6)
    json_length = len(post(server, "/v2/models/tiny/infer", in_json(pictures)).content)
    packed = requests.post(f"{server.http}/v2/models/tiny/infer", json=in_json(pictures), timeout=20, stream=True,
                           headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) < json_length
    unpacked = post(server, "/v2/models/tiny/infer", in_json(pictures), **{"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in unpacked.headers


def test_the_best_labels_are_named_on_request(server: Server, pictures: list[bytes]) -> None:
    response = post(server, "/v2/models/tiny/infer", in_json(
        pictures[:1], outputs=[{"name": "probabilities", "parameters": {"classification": 3}}])).json()
    (output,) = response["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 3])
    scores = [float(text.split(":")[0]) for text in output["data"]]
    assert scores == sorted(scores, reverse=True)
    assert all(len(text.split(":")) == 3 for text in output["data"])


def test_what_there_is_is_described_the_same_on_both_ports(server: Server) -> None:
    model = stub(server).ModelMetadata(messages.ModelMetadataRequest(name="tiny"), timeout=20)
    over_http = requests.get(f"{server.http}/v2/models/tiny", timeout=20).json()
    assert ([(put.name, put.datatype, list(put.shape)) for put in (*model.inputs, *model.outputs)]
            == [(put["name"], put["datatype"], put["shape"]) for put in over_http["inputs"] + over_http["outputs"]]
            == [("image_bytes", "BYTES", [-1, 1]), ("probabilities", "FP32", [-1, 20]), ("logits", "FP32", [-1, 20])])
    assert list(model.versions) == over_http["versions"] == ["10"]
    assert server.get("/v2")[0] == 200
    config = stub(server).ModelConfig(messages.ModelConfigRequest(name="tiny"), timeout=20).config
    assert config.max_batch_size == json.loads(server.get("/v2/models/tiny/config")[1])["max_batch_size"] == 16
    assert {path: server.get(path)[0] for path in (
        "/v2/health/live", "/v2/health/ready", "/v2/models/tiny/ready", "/v2/models/tiny/versions/9/ready",
        "/v2/models/none/ready", "/v2/models/none")} == {
        "/v2/health/live": 200, "/v2/health/ready": 200, "/v2/models/tiny/ready": 200,
        "/v2/models/tiny/versions/9/ready": 503, "/v2/models/none/ready": 503, "/v2/models/none": 404}
    (listed,) = json.loads(server.get("/v1/models")[1])["models"]
    assert (listed["name"], listed["model_version_status"][0]["state"]) == ("tiny", "AVAILABLE")


@pytest.mark.parametrize(("fields", "message"), [
    ({"name": "pixels"}, "a request takes one of the inputs image_bytes, images, inputs, found pixels"),
    ({"datatype": "FP64"}, "must be string [N] with N at least 1, found FP64 [1]"),
    ({"shape": [2]}, "input 'image_bytes' states the shape [2], but has 1 elements"),
    ({"shape": [-1]}, "with N at least 1, found string [-1]"),
    ({"shape": [1000]}, "one call may bring up to 40 pictures"),
    ({"shape": [1] * 1_000}, "more than 100 entries in a list or object beside the data"),
    ({"parameters": dict.fromkeys(map(str, range(1_000)), 1)}, "more than 100 entries"),
    ({"shape": ["x"]}, "the body is not as the Open Inference Protocol has it"),
    ({"data": "none"}, "data of 'image_bytes' must be a list, found a string"),
    ({"data": ["%"]}, "data of 'image_bytes'[0] is not base64"),
    ({"data": ["bm9uZQ=="]}, "image_bytes[0] is not a JPEG, PNG"),
    ({"parameters": {"binary_data_size": 10}}, "states the shape [1], but has 0 elements"),
    ({"name": "images", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 256]}, "uint8 is from 0 to 255"),
    ({"name": "inputs", "datatype": "FP32", "shape": [1, 9, 9, 3], "data": [1]}, "must be float32 [N, 8, 8, 3]"),
])
def test_a_wrong_input_is_refused_with_what_is_wrong(server: Server, pictures: list[bytes], fields: dict[str, Any],
                                                    message: str) -> None:
    body = in_json(pictures[:1])
    body["inputs"][0] |= fields
    response = post(server, "/v2/models/tiny/infer", body)
    assert (response.status_code, message in response.json()["error"]) == (400, True), response.json()


def test_a_damaged_binary_body_is_refused(server: Server, pictures: list[bytes]) -> None:
    body, headers = in_binary(pictures[:1])
    for sent, length in ((body, "x"), (body, str(len(body) + 1)), (body + b"x", headers[JSON_LENGTH]),
                         (body[:-1], headers[JSON_LENGTH]), (body, "5"), (b"[]", "2"), (b"", "0")):
        assert post(server, "/v2/models/tiny/infer", sent, **{JSON_LENGTH: length}).status_code == 400, length
    assert post(server, "/v2/models/tiny/infer", body, **headers).status_code == 200


def status_of(call: Any) -> tuple[Any, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def test_grpc_refuses_with_the_right_status(server: Server, pictures: list[bytes]) -> None:
    image = tensor("image_bytes", "BYTES", [1], bytes_contents=pictures[:1])
    for call, status, message in (
            (lambda: infer(server, image, image), "INVALID_ARGUMENT", "found image_bytes, image_bytes"),
            (lambda: infer(server, image, raw_input_contents=[b""]), "INVALID_ARGUMENT", "more than once"),
            (lambda: infer(server, image, outputs=[{"name": "x"}]), "INVALID_ARGUMENT", "found x"),
            *((lambda value=value: infer(server, image, outputs=[
                {"name": "logits", "parameters": {"classification": value}}]), "INVALID_ARGUMENT", "labels from 1")
              for value in ({"int64_param": 0}, {"int64_param": -2}, {"string_param": "3"}, {"bool_param": True})),
            (lambda: infer(server, image, outputs=[{"name": "logits"}] * 100_000), "INVALID_ARGUMENT",
             "outputs are probabilities, logits, each once, or none for both; found logits, logits, logits"),
            (lambda: infer(server, tensor("images", "UINT8", [1, 1, 1, 3], uint_contents=[0, 1, 999])),
             "INVALID_ARGUMENT", "input 'images' has 999"),
            (lambda: infer(server, tensor("images", "UINT8", [1, 1, 1, 3], int_contents=[0, 1, 2])),
             "INVALID_ARGUMENT", "has 0 elements"),
            (lambda: infer(server, tensor("image_bytes", "BYTES", [40]), raw_input_contents=[bytes(2_000_000)]),
             "INVALID_ARGUMENT", "has 41 elements"),
            (lambda: infer(server, image, model_version="9"), "NOT_FOUND", "no version 9"),
            (lambda: infer(server, image, model_version="stable"), "NOT_FOUND", "label 'stable'"),
            (lambda: infer(server, image, parameters={"timeout": {"int64_param": 1}}), "DEADLINE_EXCEEDED", "deadline"),
            (lambda: list(stub(server).ModelStreamInfer(iter([messages.ModelInferRequest()]), timeout=20)),
             "UNIMPLEMENTED", "ClassifyStream")):
        found, details = status_of(call)
        assert (found.name, message in details) == (status, True), details


def test_models_are_unloaded_and_loaded(changing: Server, pictures: list[bytes]) -> None:
    service = stub(changing)

    def index() -> dict[tuple[str, str], str]:
        found = service.RepositoryIndex(messages.RepositoryIndexRequest(), timeout=20).models
        assert [entry["state"] for entry in post(changing, "/v2/repository/index", {}).json()] == [
            entry.state for entry in found]
        return {(entry.name, entry.version): entry.state for entry in found}

    assert index() == {("tiny", "10"): "READY"}
    assert post(changing, "/v2/repository/models/tiny/unload", {"parameters": {"unload_dependents": False}}).ok
    assert index() == {("tiny", ""): "UNAVAILABLE"}
    assert post(changing, "/v2/repository/index", {"ready": True}).json() == []
    assert changing.get("/v2/health/ready")[0] == 503
    assert changing.health() == "NOT_SERVING"
    response = post(changing, "/v2/models/tiny/infer", in_json(pictures))
    assert (response.status_code, response.json()["error"]) == (
        404, "model 'tiny' is unloaded: the operator of this server can load it again")
    service.RepositoryModelLoad(messages.RepositoryModelLoadRequest(model_name="tiny"), timeout=60)
    assert service.ModelReady(messages.ModelReadyRequest(name="tiny"), timeout=20).ready
    assert post(changing, "/v2/repository/models/other/load", b"").ok
    assert index() == {("tiny", "10"): "READY", ("other", "1"): "READY"}
    assert changing.health("other") == "SERVING"
    service.RepositoryModelUnload(messages.RepositoryModelUnloadRequest(model_name="other"), timeout=20)
    assert changing.get("/v2/health/ready")[0] == 200  # a model that a caller has unloaded is not missed
    assert post(changing, "/v2/models/tiny/infer", in_json(pictures)).ok


@pytest.mark.parametrize("name", ["none", "..", "%2e%2e%2fx"])
def test_only_models_that_are_there_are_loaded(changing: Server, name: str) -> None:
    response = post(changing, f"/v2/repository/models/{name}/load", {})
    assert (response.status_code, str(changing.output.parent) in response.text) == (404, False)


def test_keys_say_who_may_do_what_and_health_needs_none(secured_server: Server, certificates: Files) -> None:
    url = secured_server.http.replace("http://", "https://")
    asked = [("GET", "/v2/health/live", 200, 200), ("GET", "/v2/health/ready", 200, 200), ("GET", "/v2", 401, 200),
             ("GET", "/v2/models/tiny", 401, 200), ("GET", "/v1/models", 401, 200), ("GET", "/openapi.json", 401, 200),
             ("POST", "/v2/repository/index", 401, 200), ("POST", "/v2/models/tiny/infer", 401, 400),
             ("POST", "/v2/repository/models/tiny/load", 401, 403),
             ("POST", "/v2/repository/models/tiny/unload", 401, 403)]
    for headers, column in ({}, 2), ({"authorization": f"Bearer {TOKEN}"}, 3):
        answers = [requests.request(verb, f"{url}{path}", headers=headers, data=b"{}", verify=str(certificates.ca),
                                    timeout=20).status_code for verb, path, *_ in asked]
        assert answers == [row[column] for row in asked]


def test_a_load_with_a_configuration_of_its_own_is_refused(changing: Server) -> None:
    response = post(changing, "/v2/repository/models/tiny/load", {"parameters": {"config": "{}"}})
    assert (response.status_code, "found config" in response.json()["error"]) == (400, True)


def test_tritonclient_works_unmodified(changing: Server, triton: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("triton_client.py")), changing.address,
                           changing.http.removeprefix("http://"), "tiny", str(tmp_path / "a.jpg")],
                          env={**os.environ, "PYTHONPATH": str(triton)}, capture_output=True, text=True, check=False,
                          timeout=120)
    assert (done.returncode, done.stdout) == (0, "(3, 20)\n"), done.stderr


PAGE = """<p id="answer"></p><script>
async function ask(path, options) {
  const response = await fetch("SERVER" + path, options);
  return [response.status, response.headers.get("x-request-id"), Object.keys(await response.json())];
}
(async () => {
  const answers = [];
  for (const [path, options] of [
      ["/v1/models/tiny", {}], ["/v2/models/none", {}],
      ["/v2/models/tiny/infer", {method: "POST", body: "{}", headers: {
          "content-type": "application/json", "x-request-id": "from-a-page", "authorization": "Bearer abc"}}]])
    answers.push(await ask(path, options).catch(error => [String(error)]));
  document.getElementById("answer").textContent = JSON.stringify(answers);
})();
</script>"""


@pytest.mark.parametrize("allowed", [True, False])
def test_only_pages_of_the_named_origins_read_answers(changing: Server, site: tuple[Path, str], browser: Any,
                                                      allowed: bool) -> None:
    folder, origin = site
    (folder / "page.html").write_text(PAGE.replace("SERVER", changing.http))
    from playwright.sync_api import expect

    page = browser.new_page()
    page.goto(f"{origin if allowed else origin.replace('127.0.0.1', 'localhost')}/page.html")
    expect(page.locator("#answer")).not_to_be_empty(timeout=30_000)
    answers = json.loads(page.locator("#answer").text_content())
    page.close()
    if allowed:
        assert [(status, keys) for status, _, keys in answers] == [
            (200, ["model_version_status"]), (404, ["error"]), (400, ["error"])]
        assert answers[2][1] == "from-a-page"
    else:
        assert answers == [["TypeError: Failed to fetch"]] * 3


def test_spans_have_the_status_of_http(changing: Server, collector: tuple[Collector, str]) -> None:
    asked = {"/v2/models/tiny": 200, "/v2/models/none": 404, "/v2/models/none/ready": 503, "/none": 404}
    assert {path: changing.get(path)[0] for path in asked} == asked
    assert post(changing, "/v2/models/tiny/infer", {}).status_code == 400

    def found() -> set[Any]:
        spans = map(attributes, collector[0].spans)
        return {(span.get("http.route"), span.get("http.response.status_code"), span.get("error.type"))
                for span in spans if "http.route" in span}

    until(lambda: found() >= {
        ("/v2/models/{name}", 200, None), ("/v2/models/{name}", 404, None), ("/none", 404, None),
        ("/v2/models/{name}/ready", 503, "503"), ("/v2/models/{name}/infer", 400, None)}, 20)


def test_without_origins_there_are_no_cors_headers(server: Server, changing: Server) -> None:
    asking = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    named = requests.options(f"{changing.http}/v1/models/tiny:predict", headers=asking, timeout=20)
    assert (named.status_code, named.headers["Access-Control-Allow-Origin"]) == (204, "https://app.example")
    unnamed = requests.options(f"{server.http}/v1/models/tiny:predict", headers=asking, timeout=20)
    assert (unnamed.status_code, "Access-Control-Allow-Origin" in unnamed.headers) == (405, False)


def test_the_openapi_document_has_every_route(server: Server) -> None:
    document = json.loads(server.get("/openapi.json")[1])
    assert document["openapi"].startswith("3.1")
    assert {"/v1/models/{name}:predict", "/v2/models/{name}/versions/{version}/infer", "/healthz"} <= set(
        document["paths"])
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            assert operation["summary"]
            for name in ("none",) if "/repository/" in path else ("tiny", "none"):
                url = re.sub("{(model_)?name}", name, path).format(version=10, label="stable")
                answer = requests.request(verb, f"{server.http}{url}", data=b"{}", timeout=60)
                described = operation["responses"].get(str(answer.status_code), operation["responses"]["default"])
                if described == operation["responses"]["default"]:
                    assert list(answer.json()) == ["error"], url
            assert operation["responses"]["default"]
            assert {parameter["name"] for parameter in operation["parameters"]} == {
                part.split("}")[0] for part in path.split("{")[1:]}
