"""voc-serve --ray: unchanged clients get what a server without Ray gives them, by gRPC and HTTP, refusals included.

One server for all tests: Ray takes ten seconds to start.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import kubernetes_validate
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from serving.telemetry.metrics import Metrics
from serving.tensorflow_protos import messages
from tests.integration.serving.tiny_ir import export_tiny_ir
from tests.integration.serving.tiny_model import LABELS
from tests.pictures import encoded, smooth
from voc_cls.client import Client
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc

PICTURE = encoded(smooth(60, 80), "JPEG")
TOKEN = "a-token-of-the-tests-0123456789"
METADATA = (("authorization", f"Bearer {TOKEN}"),)
ROOT = Path(__file__).parents[3]
RAY_SERVICE = ROOT / "deploy/kuberay/voc-serve.yaml"


@dataclass
class RayServer:
    """A server on Ray."""

    process: subprocess.Popen[str]
    models: Path
    port: int
    http_port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.address, options=[("grpc.enable_retries", 0)])

    def classifier(self) -> Any:
        return classifier_pb2_grpc.ClassifierStub(self.channel())  # type: ignore[no-untyped-call]

    def tensorflow_serving(self, method: str, request: Any, response: Any) -> Any:
        call = self.channel().unary_unary(f"/tensorflow.serving.{method}", type(request).SerializeToString,
                                          response.FromString)
        return call(request, metadata=METADATA, timeout=30)

    def http(self, path: str, body: Any = None, port: int | None = None) -> tuple[int, bytes]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port or self.http_port}{path}", headers={"Authorization": f"Bearer {TOKEN}"},
            data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayServer]:
    folder = tmp_path_factory.mktemp("ray")
    (folder / "models/tiny/1").mkdir(parents=True)
    export_tiny_ir(folder / "models/tiny/1")
    (folder / "keys.yaml").write_text(
        yaml.safe_dump({"keys": [{"name": "tester", "token": TOKEN, "methods": ["predict", "status", "metrics"]}]}))
    (folder / "keys.yaml").chmod(0o600)
    port = 20000 + 10 * (os.getpid() % 1000)
    command = [sys.executable, "-c", "from serving.cli import main; main()", "--ray", "--replica-cpus", "1",
               "--model-dir", str(folder / "models/tiny"), "--port", str(port), "--http-port", str(port + 1),
               "--queue-size", "16", "--poll-seconds", "0.5", "--max-message-mb", "1",
               "--keys-file", str(folder / "keys.yaml")]
    with (folder / "errors").open("w") as errors, subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True,
            env={**os.environ, "RAY_ADDRESS": "local"}) as process:
        assert process.stdout is not None
        assert "ready on" in process.stdout.readline(), (folder / "errors").read_text()
        yield RayServer(process, folder / "models/tiny", port, port + 1)
        process.terminate()
        assert process.wait(60) == 0


def request_of(*pictures: bytes, **fields: Any) -> classifier_pb2.ClassifyRequest:
    return classifier_pb2.ClassifyRequest(
        pictures=[classifier_pb2.Picture(content=picture) for picture in pictures], **fields)


def test_the_client_gets_labels_and_the_error_of_each_picture(server: RayServer, tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(PICTURE)
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    with Client(server.address, token=TOKEN, wait=10) as client:
        good, bad = client.classify([tmp_path / "a.jpg", tmp_path / "b.jpg"], raise_errors=False)
        assert {scored.label for scored in good.labels} == set(LABELS)
        assert "is not a JPEG" in str(bad.error)
        streamed = dict(client.classify_stream([tmp_path / "a.jpg"] * 40))
    assert len(streamed) == 40
    assert {answer.labels for answer in streamed.values()} == {good.labels}


def test_refusals_arrive_with_status_message_and_request_id(server: RayServer):
    stub = server.classifier()
    for request, metadata, status, message in (
            (request_of(PICTURE, model="other"), METADATA, "NOT_FOUND", "no model 'other'; this server has 'tiny'"),
            (request_of(), METADATA, "INVALID_ARGUMENT", "pictures is empty"),
            (request_of(b"x" * 2**20), METADATA, "RESOURCE_EXHAUSTED", "larger than the 1048576 bytes"),
            (request_of(PICTURE), (), "UNAUTHENTICATED", "send the header authorization")):
        with pytest.raises(grpc.RpcError, match=message) as error:
            stub.Classify(request, metadata=(*metadata, ("x-request-id", "mine")), timeout=30)
        assert error.value.code().name == status
        assert ("x-request-id", "mine") in error.value.trailing_metadata()


def test_a_full_replica_says_when_to_try_again(server: RayServer):
    stub = server.classifier()

    def call(_: int) -> Any:
        try:
            return stub.Classify(request_of(*[PICTURE] * 16), metadata=METADATA, timeout=30)
        except grpc.RpcError as error:
            return error

    with ThreadPoolExecutor(8) as threads:
        ends = list(threads.map(call, range(24)))
    refused = [end for end in ends if isinstance(end, grpc.RpcError)]
    assert 0 < len(refused) < 24
    assert {end.code().name for end in refused} == {"RESOURCE_EXHAUSTED"}
    assert all("grpc-retry-pushback-ms" in dict(end.trailing_metadata()) for end in refused)


def test_clients_of_tensorflow_serving_work_and_cannot_change_one_replica(server: RayServer):
    request = messages.PredictRequest(model_spec={"name": "tiny"}, inputs={"image_bytes": messages.TensorProto(
        dtype="DT_STRING", tensor_shape={"dim": [{"size": 1}]}, string_val=[PICTURE])})
    answer = server.tensorflow_serving("PredictionService/Predict", request, messages.PredictResponse)
    assert len(answer.outputs["probabilities"].float_val) == len(LABELS)
    status = server.tensorflow_serving("ModelService/GetModelStatus", messages.GetModelStatusRequest(
        model_spec={"name": "tiny"}), messages.GetModelStatusResponse)
    assert status.model_version_status[0].state == 30
    with pytest.raises(grpc.RpcError) as error:
        server.tensorflow_serving("ModelService/HandleReloadConfigRequest", messages.ReloadConfigRequest(),
                                  messages.ReloadConfigResponse)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_http_has_the_same_routes(server: RayServer):
    status, body = server.http("/v1/models/tiny:predict", {"instances": [{"b64": b64encode(PICTURE).decode()}]})
    assert (status, len(json.loads(body)["predictions"][0])) == (200, len(LABELS))
    assert server.http("/healthz") == (200, b"SERVING\n")
    assert [server.http(path)[0] for path in ("/", "/page/page.js")] == [200, 200]
    status, body = server.http("/v1/models/other")
    assert (status, json.loads(body)["error"]) == (404, "no model 'other'; this server has 'tiny'")
    assert server.http("/v1/models/tiny:predict", {"instances": ["x" * 2**20]})[0] == 413


def test_a_replica_shows_the_metrics_of_voc_serve_on_the_port_after_http(server: RayServer):
    _, page = server.http("/metrics", port=server.http_port + 1)
    shown = {family.name for family in text_string_to_metric_families(page.decode())}
    known = {family.name for family in text_string_to_metric_families(Metrics(["tiny"]).page()[0].decode())}
    assert known <= shown


def test_a_new_version_replaces_the_old_one_without_a_failed_call(server: RayServer):
    stub, versions = server.classifier(), []
    export_tiny_ir(_made(server.models.parent / "coming"), seed=1)
    shutil.move(server.models.parent / "coming", server.models / "2")
    deadline = time.monotonic() + 30
    while 2 not in versions[-1:]:
        assert time.monotonic() < deadline
        versions.append(stub.Classify(request_of(PICTURE), metadata=METADATA, timeout=30).version)
    assert set(versions) == {1, 2}


def test_the_ray_service_is_what_ray_and_kubernetes_take():
    from ray.serve.schema import ServeDeploySchema

    from serving.ray.app import PROGRAM, application
    from serving.ray.ingress import add_services

    service, headless = yaml.safe_load_all(RAY_SERVICE.read_text())
    kubernetes_validate.validate(headless, "1.37", strict=True)
    config = ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    (function,) = config.grpc_options.grpc_servicer_functions
    assert function == f"{add_services.__module__}.{add_services.__name__}"
    (app,) = config.applications
    assert app.import_path == f"{application.__module__}:build"
    PROGRAM.read_environment({PROGRAM.variable(name): str(value) for name, value in app.args.items()})
    ports = {port["port"] for port in headless["spec"]["ports"]}
    assert ports == {config.grpc_options.port, config.http_options.port}
    cluster = service["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **pod, "metadata": {
            "name": "ray", **pod["metadata"]}}, "1.37", strict=True)
        opened = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        assert opened["serve"] == config.http_options.port
        assert opened["grpc"] == config.grpc_options.port
    assert opened["metrics"] == config.http_options.port + 1
    (worker,) = pod["spec"]["containers"]
    assert int(worker["resources"]["requests"]["cpu"]) == app.args["replica_cpus"]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
