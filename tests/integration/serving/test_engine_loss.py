"""An engine that is killed, as where memory runs out, or hangs, comes back by itself and costs callers only time."""

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
TIMEOUT = 2 * SECONDS
"""When the engine counts as hung."""
SERVICES = ("", "voc_cls.v1.Classifier", "tensorflow.serving.PredictionService", "slow")


FLAGS = ("--max-batch-size", 1, "--poll-seconds", 0, "--engine-timeout", TIMEOUT)
"""The server never looks at the disk again, which is no reason not to start its engine again."""


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_tiny_model(tmp_path_factory.mktemp("models") / "slow" / "1", seconds=SECONDS).parent


@pytest.fixture(scope="module")
def slow_server(slow_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    starter = Start(tmp_path_factory.mktemp("server"))
    yield starter(slow_model, *FLAGS).wait_until_ready()
    starter.end_all()


def classify(server: Server, pictures: int = 1, timeout: float = 60) -> int:
    request = classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=jpeg(0))] * pictures)
    return len(server.classifier().Classify(request, timeout=timeout).classifications)


def code(call: object) -> grpc.StatusCode:
    assert isinstance(call, grpc.RpcError), call
    found: grpc.StatusCode = call.code()
    return found


def losses(server: Server, reason: str) -> float:
    return server.metric("voc_serve_engines_lost_total", model="slow", reason=reason)


def test_calls_of_a_killed_engine_are_answered_by_the_next_and_health_says_so_meanwhile(slow_server: Server) -> None:
    watch = health_pb2_grpc.HealthStub(slow_server.channel()).Watch(health_pb2.HealthCheckRequest(), timeout=300)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    killed = slow_server.engine()
    with ThreadPoolExecutor(3) as callers:
        calls = [callers.submit(classify, slow_server, pictures) for pictures in (1, 2, 3)]
        time.sleep(SECONDS / 2)
        os.kill(killed, signal.SIGKILL)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert {slow_server.health(name) for name in SERVICES} == {"NOT_SERVING"}
        assert slow_server.get("/healthz") == (503, "NOT_SERVING\n")
        with pytest.raises(grpc.RpcError) as error:
            classify(slow_server)
        assert code(error.value) is grpc.StatusCode.UNAVAILABLE
        assert "grpc-retry-pushback-ms" in dict(error.value.trailing_metadata())
        assert [call.result() for call in calls] == [1, 2, 3]
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    assert slow_server.engine() != killed
    assert losses(slow_server, "ended") == 1
    assert f"its engine's process {killed} ended with signal 9" in slow_server.errors.read_text()
    assert "Traceback" not in slow_server.errors.read_text()


def test_a_picture_that_ends_two_engines_is_not_tried_a_third_time(slow_server: Server) -> None:
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(classify, slow_server)
        until(lambda: slow_server.metric("voc_serve_pictures_in_server") == 1)
        for _ in range(2):
            until(lambda: slow_server.metric("voc_serve_ready") == 1)
            killed = slow_server.engine()
            time.sleep(SECONDS / 10)  # it computes the picture as soon as it can
            os.kill(killed, signal.SIGKILL)
            until(lambda killed=killed: slow_server.engine() != killed)
        assert code(call.exception()) is grpc.StatusCode.INTERNAL
        assert "ended twice" in call.exception().details()
    until(lambda: slow_server.health() == "SERVING")  # after some seconds, as its engine was lost again and again
    assert classify(slow_server) == 1


@pytest.mark.parametrize("busy", [True, False])
def test_an_engine_that_hangs_is_noticed_killed_and_replaced(slow_model: Path, start: Start, busy: bool) -> None:
    server = start(slow_model, *FLAGS).wait_until_ready()
    hung = server.engine()
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(classify, server) if busy else None
        time.sleep(SECONDS / 2)
        os.kill(hung, signal.SIGSTOP)
        until(lambda: server.health() == "NOT_SERVING", 30)  # without a call too
        assert (losses(server, "hung"), losses(server, "ended")) == (1, 0)
        until(lambda: server.health() == "SERVING")
        assert call is None or call.result() == 1
    assert f"its engine's process {hung} did not answer for" in server.errors.read_text()
    assert classify(server) == 1


def test_a_server_that_was_stopped_with_its_engine_does_not_take_it_for_hung(slow_server: Server) -> None:
    before, processes = losses(slow_server, "hung"), (slow_server.process.pid, slow_server.engine())
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(classify, slow_server)
        time.sleep(SECONDS / 2)
        for number, pause in ((signal.SIGSTOP, 2 * TIMEOUT), (signal.SIGCONT, 0)):
            for process in processes:
                os.kill(process, number)
            time.sleep(pause)
        assert call.result() == 1
    assert (losses(slow_server, "hung"), slow_server.engine()) == (before, processes[1])


def test_an_engine_ends_with_a_server_that_is_killed(slow_server: Server) -> None:
    orphan = slow_server.engine()
    slow_server.process.kill()
    slow_server.process.wait()
    until(lambda: not Path(f"/proc/{orphan}").exists(), 20)
