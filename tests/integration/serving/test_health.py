"""Health says what is: not before every batch size is warmed up, not while it stops; and no call is lost."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import requests
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.serving.conftest import Server, Start, jpeg, until
from tests.integration.serving.test_life_cycle import classify, classify_request, free_port
from tests.integration.serving.test_rest import b64
from tests.integration.serving.tiny_model import export_tiny_model

SERVICES = ("", "voc_cls.v1.Classifier", "tensorflow.serving.PredictionService", "tiny")
SECONDS = 1.0
NAMES = health_pb2.HealthCheckResponse.ServingStatus


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model called tiny, whose network takes SECONDS for a batch of any size."""
    return export_tiny_model(tmp_path_factory.mktemp("slow") / "tiny" / "1", seconds=SECONDS).parent


class Watch:
    """The statuses that Watch tells of a service, by their names, without those that repeat."""

    def __init__(self, server: Server, service: str) -> None:
        self.statuses: list[str] = []
        stub = health_pb2_grpc.HealthStub(server.channel())
        self._call = stub.Watch(health_pb2.HealthCheckRequest(service=service), wait_for_ready=True)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def close(self) -> list[str]:
        self._call.cancel()
        self._thread.join()
        return self.statuses

    def _read(self) -> None:
        try:
            for response in self._call:
                self.statuses.append(NAMES.Name(response.status))
        except grpc.RpcError:
            pass


def http(server: Server, path: str, body: object = None) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request("GET" if body is None else "POST", server.http + path, json=body, timeout=30)


def post(server: Server) -> int:
    """Status of a Predict call over HTTP."""
    return http(server, "/v1/models/tiny:predict", {"instances": [b64(jpeg(0))]}).status_code


def test_from_start_to_end_health_says_what_is_and_a_lame_duck_still_answers(start: Start, slow_model: Path,
                                                                            tmp_path: Path) -> None:
    port, http_port = free_port(), free_port()
    server = start(slow_model, "--port", port, "--http-port", http_port, "--max-batch-size", 2, "--port-file",
                   tmp_path / "port", "--lame-duck-seconds", 3 * SECONDS)
    server.address, server.http = f"127.0.0.1:{port}", f"http://127.0.0.1:{http_port}"
    watches = {name: Watch(server, name) for name in (*SERVICES, "voc")}
    assert {server.health(name) for name in SERVICES} == {"NOT_SERVING"}
    assert not (tmp_path / "port").exists()
    with pytest.raises(grpc.RpcError) as error:
        classify(server)
    assert (error.value.code(), error.value.details()) == (
        grpc.StatusCode.UNAVAILABLE, "model 'tiny', version 1, is not ready yet: try again in a moment")
    assert 100 <= int(dict(error.value.trailing_metadata())["grpc-retry-pushback-ms"]) <= 5000
    for path in ("/healthz", "/v1/models/tiny/metadata"):
        answer = http(server, path)
        assert (answer.status_code, 1 <= int(answer.headers["Retry-After"]) <= 5) == (503, True)
    server.wait_until_ready()
    assert {server.health(name) for name in SERVICES} == {"SERVING"}
    assert server.get("/healthz") == (200, "SERVING\n")
    assert (tmp_path / "port").read_text() == f"{port}\n"
    assert server.metric("voc_serve_ready") == 1
    assert http(server, "/v1/models/tiny").status_code == http(server, "/v1/models/none").status_code - 204 == 200
    server.process.send_signal(signal.SIGTERM)
    until(lambda: server.health() == "NOT_SERVING", 5)
    assert {server.health(name) for name in SERVICES} == {"NOT_SERVING"}
    assert server.get("/healthz") == (503, "NOT_SERVING\n")
    assert len(classify(server).classifications) == 1
    assert post(server) == 200
    assert server.process.wait(20) == 0
    for name, watch in watches.items():
        assert watch.close() == (["NOT_SERVING", "SERVING", "NOT_SERVING"] if name != "voc" else ["SERVICE_UNKNOWN"])
    assert not (tmp_path / "port").exists()
    assert "stopped: 2 calls answered, 1 refused or failed" in server.output.read_text()


def test_every_batch_size_is_warmed_up_before_readiness_and_the_log_says_how_long_each_took(
        start: Start, slow_model: Path) -> None:
    server = start(slow_model, "--max-batch-size", 3).wait_until_ready()
    assert "first batches of 1 2 3 pictures took 1." in server.errors.read_text()
    warm_up = server.metric(":tensorflow:serving:model_warmup_latency_sum", model_path=str(slow_model / "1"),
                            status="OK")
    assert 3 * SECONDS * 1e6 <= warm_up < 60e6
    assert server.metric("voc_serve_load_seconds_sum", model="tiny", outcome="loaded") >= warm_up / 1e6
    server.process.send_signal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as caller:
        assert caller.submit(server.process.wait, 10).result() == 0


def test_a_second_signal_ends_the_lame_duck(start: Start, model: Path) -> None:
    server = start(model, "--lame-duck-seconds", 60, "--max-batch-size", 1).wait_until_ready()
    server.process.send_signal(signal.SIGTERM)
    until(lambda: server.health() == "NOT_SERVING", 5)
    begun = time.monotonic()
    assert server.end(signal.SIGINT) == 0  # as nothing was lost
    assert time.monotonic() - begun < 60


def test_a_model_by_its_name_each_service_and_the_whole_have_a_health(server: Server) -> None:
    assert {server.health(name) for name in SERVICES} == {"SERVING"}
    with pytest.raises(grpc.RpcError) as error:
        server.health("voc_cls.v1.Detector")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


CALLERS, HTTP_CALLERS = 20, 4


def test_when_sigterm_comes_each_of_many_callers_is_answered_or_refused_and_none_hangs(start: Start,
                                                                                      tmp_path: Path) -> None:
    server = start(export_tiny_model(tmp_path / "tiny" / "1", seconds=0.05).parent,
                   "--max-batch-size", 4).wait_until_ready()
    ended, late = threading.Event(), time.monotonic() + 120

    def call() -> Counter[str]:
        """Classifies until the server has gone."""
        outcomes: Counter[str] = Counter()
        stub, request = server.classifier(), classify_request()
        while not ended.is_set():
            assert time.monotonic() < late
            try:
                assert len(stub.Classify(request, timeout=60).classifications) == 1
                outcomes["OK"] += 1
            except grpc.RpcError as error:
                outcomes[error.code().name] += 1
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    break
        return outcomes

    def call_http() -> Counter[str]:
        outcomes: Counter[str] = Counter()
        while not ended.is_set():
            try:
                outcomes[str(post(server))] += 1
            except requests.ConnectionError:  # nobody listens any more, or the connection was still in the port's queue
                outcomes["refused"] += 1
                break
        return outcomes

    with ThreadPoolExecutor(CALLERS + HTTP_CALLERS) as callers:
        calls = [callers.submit(call) for _ in range(CALLERS)]
        http_calls = [callers.submit(call_http) for _ in range(HTTP_CALLERS)]
        until(lambda: server.metric(":tensorflow:serving:request_count", model_name="tiny", status="OK") > 100)
        code = server.end(timeout=60)
        ended.set()
        outcomes = sum((call.result() for call in calls), Counter())
        http_outcomes = sum((call.result() for call in http_calls), Counter())
    assert code == 0
    # CANCELLED: gRPC's own word to what arrives while it closes a connection; nothing of it was begun
    assert {"OK", "UNAVAILABLE"} <= set(outcomes) <= {"OK", "UNAVAILABLE", "CANCELLED"}
    assert set(http_outcomes) <= {"200", "503", "refused"}
    said = server.output.read_text()
    assert int(said.split("stopped: ")[1].split()[0]) >= outcomes["OK"] + http_outcomes["200"]  # and the scrapes
    assert "Traceback" not in server.errors.read_text()
