"""A server starts when it can answer, says so, and ends without losing a call."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.integration.serving.conftest import Server, Start, jpeg, until
from tests.integration.serving.tiny_model import LABELS, export_tiny_model
from voc_cls.v1 import classifier_pb2

SERVICES = ("voc_cls.v1.Classifier", "tensorflow.serving.PredictionService")
SECONDS = 1.0


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose network takes SECONDS for a batch of any size."""
    return export_tiny_model(tmp_path_factory.mktemp("slow") / "slow" / "1", seconds=SECONDS).parent


def classify(server: Server, pictures: int = 1) -> classifier_pb2.ClassifyResponse:
    response: classifier_pb2.ClassifyResponse = server.classifier().Classify(classify_request(pictures), timeout=60)
    return response


def classify_request(pictures: int = 1) -> classifier_pb2.ClassifyRequest:
    return classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=jpeg(0))] * pictures)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_the_ready_line_says_what_is_served_and_how(server: Server) -> None:
    http = server.http.removeprefix("http://")
    assert server.ready_line.startswith(f"ready on {server.address} (gRPC) and {http} (HTTP): model tiny, version 10 "
                                        "(tiny, 20 labels); TensorFlow 2.")
    assert ", CPU, float32, " in server.ready_line
    assert (f"; batch sizes 1 2 4 8 16; page: {server.http}/; for clients on this machine only (see --host); "
            "no encryption, no keys; ") in server.ready_line
    memory, seconds = re.findall(r"; ([0-9.]+) GiB of memory; ready after ([0-9.]+) s$", server.ready_line)[0]
    assert 0.1 < float(memory) < 4
    assert float(seconds) > 0


def test_sigterm_lets_a_call_that_runs_finish_in_spite_of_open_streams(start: Start, slow_model: Path) -> None:
    server = start(slow_model, "--max-batch-size", 1).wait_until_ready()
    watch = health_pb2_grpc.HealthStub(server.channel()).Watch(health_pb2.HealthCheckRequest(), timeout=30)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    ended = threading.Event()
    idle = reflection_pb2_grpc.ServerReflectionStub(server.channel()).ServerReflectionInfo(silence(ended), timeout=30)
    with ThreadPoolExecutor(1) as caller:
        call = caller.submit(classify, server, 2)  # two batches of one: 2 seconds
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not call.done()
        assert len(call.result().classifications[1].labels) == len(LABELS)
        assert server.process.wait(5) == 0
    ended.set()
    idle.cancel()
    assert "stopped: 2 calls answered, 0 refused or failed" in server.output.read_text()


def silence(ended: threading.Event) -> Any:
    """The requests of a caller who opens a stream and then sends nothing."""
    ended.wait(20)
    yield reflection_pb2.ServerReflectionRequest()


def test_a_body_that_is_still_arriving_at_sigterm_is_read_and_answered(start: Start, model: Path) -> None:
    server = start(model, "--max-batch-size", 1).wait_until_ready()
    body = json.dumps({"instances": [{"b64": base64.b64encode(jpeg(0)).decode()}]}).encode()
    host, port = server.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: tiny\r\nConnection: close\r\n"
                       b"Content-Length: %d\r\n\r\n" % len(body) + body[:100])
        until(lambda: in_flight(server) == 1)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        client.sendall(body[100:])
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 200 OK")
    assert server.process.wait(10) == 0


def test_a_second_signal_or_the_end_of_the_grace_ends_the_calls_that_run(start: Start, slow_model: Path) -> None:
    hurried = start(slow_model, "--max-batch-size", 1)
    timed = start(slow_model, "--max-batch-size", 1, "--grace-seconds", 0.5)
    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(ask, server.wait_until_ready()) for server in (hurried, timed)
                 for ask in (classify_for_long, predict_for_long)]
        for server in (hurried, timed):
            until(lambda server=server: in_flight(server) == 2)
        hurried.process.send_signal(signal.SIGINT)
        assert timed.end() == 1
        assert hurried.process.poll() is None
        assert hurried.end(signal.SIGTERM) == 1
        assert all(isinstance(call.exception(), grpc.RpcError | requests.ConnectionError) for call in calls)
    assert "stopped with 2 calls unanswered, as a second signal came" in hurried.errors.read_text()
    assert "stopped with 2 calls unanswered, as --grace-seconds 0.5 had passed" in timed.errors.read_text()


def classify_for_long(server: Server) -> None:
    """A call of 40 seconds over gRPC."""
    classify(server, 40)


def predict_for_long(server: Server) -> None:
    """A call of 40 seconds over HTTP."""
    instance = {"b64": base64.b64encode(jpeg(0)).decode()}
    with requests.Session() as session:
        session.trust_env = False
        session.post(f"{server.http}/v1/models/slow:predict", json={"instances": [instance] * 40}, timeout=60)


def in_flight(server: Server) -> float:
    """Calls being answered; whoever reads the metrics does not count."""
    return sum(server.metric("voc_serve_calls_in_flight", entrypoint=entrypoint) for entrypoint in ("GRPC", "REST"))


def test_sigterm_while_the_model_loads_ends_it_at_once(start: Start, slow_model: Path) -> None:
    port = free_port()
    server = start(slow_model, "--port", port, "--max-batch-size", 1024,
                   "--queue-size", 1024)  # 11 batch sizes to warm up: 11 seconds
    server.address = f"127.0.0.1:{port}"
    assert server.health() == "NOT_SERVING"
    assert server.end() == 0
    assert "loaded in" not in server.errors.read_text()


def test_json_logs_hold_json_only_whatever_happens(start: Start, model: Path, server: Server,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOC_SERVE_LOG_FORMAT", "json")
    served = start(model, "--access-log", 1, "--log-level", "debug", "--max-batch-size", 1).wait_until_ready()
    for content in (jpeg(0), jpeg(0)[:-300], b"\xff\xd8\xff\xe0" + bytes(999), b"GIF89a"):
        request = classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=content)] * 3)
        served.classifier().Classify(request, timeout=60)
    for address in (served.address, served.http.removeprefix("http://")):
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(b"\x16\x03\x01 not what this port speaks\n\n")
            client.recv(100)
    assert served.get("/v1/models/none")[0] == 404
    os.kill(served.engine(), signal.SIGSEGV)
    until(lambda: "loaded in" in served.errors.read_text().partition("is started again")[2])
    taken = start(model, "--port", server.address.rpartition(":")[2])
    wrong = start(model, "--log-format", "json", "--wrong", 3)
    misspelt = start(model.parent / "none")
    assert (served.end(), taken.process.wait(60), wrong.process.wait(60), misspelt.process.wait(60)) == (0, 1, 2, 1)
    for process, message in ((served, "engine has ended"), (taken, "cannot listen on"), (wrong, "--wrong"),
                             (misspelt, "none is not there")):
        entries = [json.loads(line) for file in (process.output, process.errors)
                   for line in file.read_text().splitlines()]
        assert all({"time", "level", "logger", "message"} <= set(entry) for entry in entries)
        assert any(message in entry["message"] for entry in entries)
    calls = [entry for entry in map(json.loads, served.errors.read_text().splitlines())
             if entry["logger"] == "serving.access" and entry["status"] == "OK" and entry["level"] == "INFO"]
    assert [call.get("pictures") for call in calls] == [3, None, None, None]
    parts = {name: seconds for name, seconds in calls[0].items() if name.endswith("_seconds")}
    assert set(parts) == {"receive_seconds", "decode_queue_seconds", "decode_seconds", "queue_seconds",
                          "engine_seconds", "answer_seconds"}
    assert sum(parts.values()) == pytest.approx(calls[0]["seconds"], abs=1e-5)
    assert [entry for entry in map(json.loads, served.errors.read_text().splitlines())
            if entry["logger"] == "serving.access" and entry["level"] == "DEBUG"] != []  # polls of the status
    ready, *_, stopped, batches = (json.loads(line) for line in served.output.read_text().splitlines())
    assert ready["message"].startswith("voc-serve: ready on ")
    assert stopped["message"].startswith("voc-serve: stopped: 4 calls answered, ")
    assert "10: 3 pictures in 3 batches, largest 1; 0 dropped" in batches["message"]  # though the engine is another one
    assert {"level": "INFO", "logger": "serving.server"}.items() <= batches.items()


def test_a_port_in_use_is_one_sentence(start: Start, server: Server, model: Path) -> None:
    port = server.address.rpartition(":")[2]
    second = start(model, "--port", port)
    assert second.process.wait(60) == 1
    assert second.errors.read_text() == (
        f"voc-serve: error: cannot listen on 127.0.0.1:{port}, as the port is taken or the address is not this "
        "machine's: stop what listens there, or choose another --port or --host\n")
    third = start(model, "--http-port", port)
    assert third.process.wait(60) == 1
    assert f"cannot listen on 127.0.0.1:{port} (" in third.errors.read_text()
    assert "Traceback" not in third.errors.read_text()


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(("host", "shown", "reached"), [
    ("::1", "[::1]", {"::1"}), ("[::1]", "[::1]", {"::1"}), ("::", "[::]", {"::1", "127.0.0.1"}),
    ("[::]", "[::]", {"::1", "127.0.0.1"})])
def test_both_ports_listen_on_ipv6_with_and_without_brackets(start: Start, model: Path, host: str, shown: str,
                                                             reached: set[str]) -> None:
    server = start(model, "--max-batch-size", 1, "--host", host).wait_until_ready()
    ports = re.findall(re.escape(shown) + r":(\d+) \((?:gRPC|HTTP)\)", server.ready_line)
    assert len(ports) == 2
    for address in ("::1", "127.0.0.1"):
        for port in ports:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
                assert (client.connect_ex((address, int(port))) == 0) == (address in reached)


def test_a_model_that_cannot_be_loaded_is_one_sentence(start: Start, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(model / "10", folder / "1")
    next((folder / "1" / "variables").glob("*.data*")).write_bytes(b"cut off")
    server = start(folder)
    assert server.process.wait(60) == 1
    *log, told = server.errors.read_text().splitlines()
    assert told.startswith(f"voc-serve: error: {folder}/1 cannot be loaded (")
    assert all("Traceback" not in line for line in log)


def test_reflection_lists_the_services_and_their_files(server: Server) -> None:
    requests = [reflection_pb2.ServerReflectionRequest(list_services=""),
                reflection_pb2.ServerReflectionRequest(file_containing_symbol="voc_cls.v1.Classifier")]
    listed, found = reflection_pb2_grpc.ServerReflectionStub(server.channel()).ServerReflectionInfo(
        iter(requests), timeout=10)
    assert [service.name for service in listed.list_services_response.service] == sorted(
        [*SERVICES, "tensorflow.serving.ModelService", "grpc.health.v1.Health",
         "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
         "inference.GRPCInferenceService"])
    assert b"ClassifyRequest" in found.file_descriptor_response.file_descriptor_proto[0]
    asked = [*(service.name for service in listed.list_services_response.service),
             "voc_cls.v1.Picture", "voc_cls.v1.none.Picture"]
    answers = reflection_pb2_grpc.ServerReflectionStub(server.channel()).ServerReflectionInfo(iter([
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in asked]), timeout=10)
    assert [answer.HasField("file_descriptor_response") for answer in answers] == [True] * (len(asked) - 1) + [False]


def test_the_probe_of_the_container_ends_with_0_only_for_a_server_that_serves(server: Server) -> None:
    def probe(*args: str) -> tuple[int, str]:
        ended = subprocess.run([sys.executable, "-m", "serving.probe", *args], capture_output=True, text=True,
                               check=False)
        return ended.returncode, ended.stdout + ended.stderr

    assert probe(server.address) == (0, "SERVING\n")
    code, told = probe(f"127.0.0.1:{free_port()}")
    assert (code, told.startswith("UNAVAILABLE: ")) == (1, True)
    assert probe()[0] == 2
