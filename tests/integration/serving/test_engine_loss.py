"""An engine that is killed, as where memory runs out, costs the calls that it had, and comes back by itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.serving.conftest import Server, Start, jpeg, until
from tests.integration.serving.tiny_model import export_tiny_model
from voc_cls.v1 import classifier_pb2

SECONDS = 1.0
"""How long a batch takes."""
SERVICES = ("", "voc_cls.v1.Classifier", "tensorflow.serving.PredictionService", "slow")


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that never looks at the disk again, which is no reason not to start its engine again."""
    folder = tmp_path_factory.mktemp("models") / "slow"
    export_tiny_model(folder / "1", seconds=SECONDS)
    starter = Start(tmp_path_factory.mktemp("server"))
    yield starter(folder, "--max-batch-size", 1, "--poll-seconds", 0).wait_until_ready()
    starter.end_all()


def classify(server: Server, pictures: int = 1, timeout: float = 60) -> int:
    request = classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=jpeg(0))] * pictures)
    return len(server.classifier().Classify(request, timeout=timeout).classifications)


def code(call: object) -> grpc.StatusCode:
    assert isinstance(call, grpc.RpcError), call
    found: grpc.StatusCode = call.code()
    return found


def test_calls_of_a_killed_engine_are_unavailable_health_says_so_and_it_comes_back_each_time(
        slow_server: Server) -> None:
    watch = health_pb2_grpc.HealthStub(slow_server.channel()).Watch(health_pb2.HealthCheckRequest(), timeout=300)
    for losses in (1, 2):  # after the second the server waits for some seconds before it tries again
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        killed = slow_server.engine()
        with ThreadPoolExecutor(3) as callers:
            calls = [callers.submit(classify, slow_server, pictures) for pictures in (1, 2, 3)]
            time.sleep(SECONDS / 2)
            begun = time.monotonic()
            os.kill(killed, signal.SIGKILL)
            assert {code(call.exception()) for call in calls} == {grpc.StatusCode.UNAVAILABLE}
            assert time.monotonic() - begun < 2 * SECONDS  # none of the six pictures was waited for
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert {slow_server.health(name) for name in SERVICES} == {"NOT_SERVING"}
        assert slow_server.get("/healthz") == (503, "NOT_SERVING\n")
        with pytest.raises(grpc.RpcError) as error:
            classify(slow_server)
        assert code(error.value) is grpc.StatusCode.UNAVAILABLE
        until(lambda: slow_server.health() == "SERVING")
        assert classify(slow_server) == 1
        assert slow_server.engine() != killed
        assert slow_server.metric("voc_serve_engines_lost_total", model="slow") == losses
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    assert "its engine's process" in slow_server.errors.read_text()
    assert "Traceback" not in slow_server.errors.read_text()


def test_an_engine_ends_with_a_server_that_is_killed(slow_server: Server) -> None:
    orphan = slow_server.engine()
    slow_server.process.kill()
    slow_server.process.wait()
    until(lambda: not Path(f"/proc/{orphan}").exists(), 20)
