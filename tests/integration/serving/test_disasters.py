"""What happens to a server from below: killed, its disk full, its log unread, its model gone, its engine frozen."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf

from tests.bombardment import condition
from tests.integration.serving.conftest import BIN, START_TIMEOUT, Server, Start, jpeg, until
from tests.integration.serving.forked_server import start_server
from tests.integration.serving.tiny_model import export_tiny_model
from voc_cls.v1 import classifier_pb2

QUICKLY = 5
"""Seconds; on an idle machine it is some milliseconds."""


def request(seed: int = 0) -> classifier_pb2.ClassifyRequest:
    return classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=jpeg(seed))])


def classify(server: Server, seed: int = 0, timeout: float = QUICKLY) -> list[float]:
    answer = server.classifier().Classify(request(seed), timeout=timeout)
    return [label.probability for label in answer.classifications[0].labels]


def status_of(call: Callable[[], Any]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def assert_is_a_program_of_its_own(engine: int, server: Server) -> None:
    """And no fork of the server; Ctrl-C reaches both, and the engine waits."""
    command = Path(f"/proc/{engine}/cmdline").read_bytes().split(b"\0")
    assert command[1:3] == [b"-m", b"serving.engine.worker"]
    assert os.getpgid(engine) == os.getpgid(server.process.pid)
    assert "tensorflow" in Path(f"/proc/{engine}/maps").read_text()
    assert "tensorflow" not in Path(f"/proc/{server.process.pid}/maps").read_text()
    # its last words are in the log
    assert [os.readlink(f"/proc/{engine}/fd/{number}") for number in (1, 2)] == [str(server.output), str(server.errors)]


def test_a_server_killed_under_load_is_replaced_on_its_port_at_once(start_program: Start, start: Start,
                                                                    tmp_path: Path) -> None:
    slow = export_tiny_model(tmp_path / "slow" / "1", seconds=0.5).parent
    port_file = tmp_path / "port"
    flags = ("--port", free_port(), "--http-port", free_port(), "--port-file", port_file)
    killed = start_program(slow, *flags).wait_until_ready()
    calls = [killed.classifier().Classify.future(request(), timeout=30) for _ in range(20)]
    until(lambda: killed.metric("voc_serve_pictures_in_server") > 0)
    (engine,) = condition(killed.process.pid).engines
    assert alive(engine)
    assert_is_a_program_of_its_own(engine, killed)

    assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    replaced = start(slow, *flags)
    assert {call.code().name for call in calls} <= {"UNAVAILABLE", "OK"}
    until(lambda: not port_file.exists(), START_TIMEOUT)  # or it would tell that the new one is ready
    until(lambda: not alive(engine), 30)
    replaced.wait_until_ready()
    assert replaced.address == killed.address
    until(port_file.exists)
    assert port_file.read_text() == f"{flags[1]}\n"
    assert len(classify(replaced)) == 20
    assert replaced.end() == 0
    assert not port_file.exists()


@pytest.fixture
def start_blindly(model: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server whose streams are not files that a test could read: a shell redirects those of a program, and a
    forked one gets these files or pipes."""
    servers: list[Server] = []

    def started(redirections: str = "", output: Path = tmp_path / "out", errors: Path = tmp_path / "err",
                pipes: tuple[int, int] | None = None) -> Server:
        port_file, http = tmp_path / "port", free_port()
        arguments = ["--model-dir", model, "--host", "127.0.0.1", "--port", 0, "--http-port", http, "--port-file",
                     port_file, "--access-log", 1]
        if redirections:
            program = f"exec {BIN}/voc-serve {' '.join(map(str, arguments))} {redirections}"
            process: Any = subprocess.Popen(["sh", "-c", program], stdin=subprocess.DEVNULL)
        else:
            process = start_server(list(map(str, arguments)), output, errors, pipes)
        server = Server(process, Path(os.devnull), Path(os.devnull), http=f"http://127.0.0.1:{http}")
        servers.append(server)
        until(lambda: port_file.exists() or process.poll() is not None, START_TIMEOUT)
        assert process.poll() is None
        server.address = f"127.0.0.1:{port_file.read_text().strip()}"
        return server

    yield started
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def assert_serves_and_ends(server: Server) -> None:
    stub, bad = server.classifier(), classifier_pb2.ClassifyRequest()
    for _ in range(300):
        assert status_of(lambda: stub.Classify(request(), timeout=QUICKLY)) == "OK"
        assert status_of(lambda: stub.Classify(bad, timeout=QUICKLY)) == "INVALID_ARGUMENT"
    assert server.health() == "SERVING"
    assert server.metric("voc_serve_log_lines_lost_total") > 0
    assert server.end() == 0


def test_it_serves_on_with_its_stdout_closed_and_its_log_on_a_full_disk(start_blindly: Callable[..., Server]) -> None:
    assert_serves_and_ends(start_blindly(">&- 2>/dev/full"))


def test_it_serves_on_while_nobody_reads_its_pipes(start_blindly: Callable[..., Server]) -> None:
    """One whose reader has gone, one whose reader is stuck."""
    gone, stdout = os.pipe()
    os.close(gone)
    stuck, stderr = os.pipe()
    try:
        server = start_blindly(pipes=(stdout, stderr))
        stub = server.classifier()
        until(lambda: [stub.Classify(request(), timeout=QUICKLY) for _ in range(50)]
              and server.metric("voc_serve_log_lines_lost_total") > 0)
        assert_serves_and_ends(server)
    finally:
        for descriptor in (stuck, stdout, stderr):
            os.close(descriptor)


def test_a_log_whose_disk_was_full_goes_on_when_it_is_not(start_blindly: Callable[..., Server], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        for name in ("out", "log"):
            (disk / name).touch()
        server = start_blindly(output=disk / "out", errors=disk / "log")
        stub = server.classifier()
        until(lambda: [stub.Classify(request(), timeout=QUICKLY) for _ in range(50)]
              and server.metric("voc_serve_log_lines_lost_total") > 0)
        assert server.health() == "SERVING"
        os.truncate(disk / "log", 0)
        stub.Classify(request(), timeout=QUICKLY)
        until(lambda: "lines of the log could not be written" in (disk / "log").read_text(errors="replace"), QUICKLY)
        assert server.end() == 0
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_model_whose_folder_is_removed_is_served_on_and_recovers_with_it(start: Start, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "models" / "tiny", tmp_path / "elsewhere"
    export_tiny_model(folder / "1", seed=1)
    shutil.copytree(folder, elsewhere)
    server = start(folder, "--poll-seconds", 0.2).wait_until_ready()
    right = classify(server)
    shutil.rmtree(folder)
    time.sleep(1)
    assert classify(server) == right
    assert server.health() == "SERVING"
    told = server.errors.read_text()
    assert told.count(str(folder)) == 1, "told once, not at every look"

    os.kill(server.engine(), signal.SIGKILL)
    until(lambda: server.health() == "NOT_SERVING", QUICKLY)
    assert status_of(lambda: classify(server)) == "UNAVAILABLE"
    shutil.copytree(elsewhere, folder)
    until(lambda: server.health() == "SERVING")
    assert classify(server) == right
    assert server.process.poll() is None


def test_a_frozen_engine_costs_deadlines_and_no_more(start: Start, model: Path, saved_model: Any) -> None:
    server = start(model, "--queue-size", 20, "--max-batch-size", 4, "--grace-seconds", 2).wait_until_ready()
    stub = server.classifier()
    for seed in range(4):
        stub.Classify(request(seed), timeout=QUICKLY)
    engine = server.engine()
    os.kill(engine, signal.SIGSTOP)
    begin = time.monotonic()
    statuses: list[tuple[str, float]] = []

    def call() -> None:
        statuses.append((status_of(lambda: stub.Classify(request(), timeout=2)), time.monotonic() - begin))

    threads = [threading.Thread(target=call) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shed = [seconds for status, seconds in statuses if status == "RESOURCE_EXHAUSTED"]
    late = [seconds for status, seconds in statuses if status == "DEADLINE_EXCEEDED"]
    assert len(shed) == len(late) == 20, statuses
    assert max(late) < 2 + QUICKLY
    until(lambda: server.metric("voc_serve_pictures_in_server") == 0, QUICKLY)
    assert server.health() == "SERVING"

    os.kill(engine, signal.SIGCONT)
    for seed in range(4):
        expected = saved_model.signatures["serving_default"](image_bytes=tf.constant([jpeg(seed)]))["probabilities"][0]
        ours = classify(server, seed)
        assert all(abs(mine - theirs) < 1e-4 for mine, theirs in zip(ours, sorted(expected.numpy(), reverse=True),
                                                                     strict=True))

    os.kill(engine, signal.SIGSTOP)
    assert status_of(lambda: stub.Classify(request(), timeout=1)) == "DEADLINE_EXCEEDED"
    assert server.end() == 0
    assert not alive(engine)
