"""Serving by Ray while replicas end, or are replaced: callers that retry, as voc_cls.client does, lose no call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from ray.cluster_utils import Cluster

from tests.commands import BIN
from tests.integration.serving.tiny_ir import export_tiny_ir
from tests.pictures import encoded, smooth
from voc_cls.client import CallError, Client

ROOT = Path(__file__).parents[2]
PORT = 28500
HAPROXY = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
           "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1"}


def replicas(mark: str) -> list[int]:
    """Process ids of the replicas with that mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ServeReplica" in (folder / "cmdline").read_bytes() and mark in (folder / "environ").read_text():
                found.append(int(folder.name))
        except OSError:  # has ended, or is another user's
            continue
    return found


@contextmanager
def callers(port: int = PORT) -> Iterator[Counter[str]]:
    """Eight threads that call again and again, two of them in streams; counts how calls, and images of streams, end."""
    ends, over = Counter[str](), Event()
    picture = encoded(smooth(60, 80), "JPEG")

    def call(client: Client) -> None:
        client.classify([picture])
        ends["OK"] += 1

    def stream(client: Client) -> None:
        for _, prediction in client.classify_stream((picture for _ in iter(over.is_set, True)), window=4):
            ends[prediction.error or "OK, in a stream"] += 1

    def again_and_again(work: Callable[[Client], None]) -> None:
        with Client(f"127.0.0.1:{port}", timeout=60) as client:
            while not over.is_set():
                try:
                    work(client)
                except CallError as error:
                    ends[f"{error.code.name}: {error}"] += 1

    threads = [Thread(target=again_and_again, args=(work,)) for work in [call] * 6 + [stream] * 2]
    for thread in threads:
        thread.start()
    try:
        yield ends
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("ingress", [{}, HAPROXY], ids=["Ray's proxy", "HAProxy"])
def test_replicas_that_are_killed_under_load_cost_no_call(ingress: dict[str, str], tmp_path: Path):
    (tmp_path / "tiny/1").mkdir(parents=True)
    export_tiny_ir(tmp_path / "tiny/1")
    command = [sys.executable, "-c", "from serving.cli import main; main()", "--ray", "--replicas", "2",
               "--replica-cpus", "0.5", "--model-dir", str(tmp_path / "tiny"), "--port", str(PORT),
               "--http-port", str(PORT + 1)]
    mark = f"VOC_MARK={tmp_path}"
    environment = {**os.environ, **ingress, "RAY_ADDRESS": "local", "VOC_MARK": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ready on" in process.stdout.readline()
        with callers() as ends:
            for _ in range(3):
                time.sleep(2)
                os.kill(replicas(mark)[0], signal.SIGKILL)
                deadline = time.monotonic() + 60
                while len(replicas(mark)) < 2:
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
                time.sleep(3)  # it loads
        process.terminate()
        process.wait(90)
    assert ends.keys() == {"OK", "OK, in a stream"}, ends


def test_other_flags_by_serve_run_cost_no_call(tmp_path: Path):
    (tmp_path / "tiny/1").mkdir(parents=True)
    export_tiny_ir(tmp_path / "tiny/1")
    port = PORT + 10
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})

    def serve(*args: str) -> None:
        subprocess.run([BIN / "serve", *args], cwd=ROOT, check=True,
                       env={**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT)})

    def deploy(queue_size: int) -> None:
        serve("run", "--non-blocking", "serving.ray.app:build", f"model_dir={tmp_path / 'tiny'}", "replicas=2",
              "replica_cpus=0.5", f"http_port={port + 1}", f"queue_size={queue_size}", "grace_seconds=5")
        with urllib.request.urlopen(f"http://127.0.0.1:{port + 1}/metrics", timeout=30) as page:
            assert f"voc_serve_queue_capacity {queue_size}.0" in page.read().decode()

    try:
        serve("start", "--http-port", str(port + 1), "--grpc-port", str(port), "--grpc-servicer-functions",
              "serving.ray.ingress.add_services")
        deploy(64)
        with callers(port) as ends:
            deploy(65)
            time.sleep(2)
            deploy(66)
    finally:
        cluster.shutdown()
    assert ends.keys() == {"OK", "OK, in a stream"}, ends
