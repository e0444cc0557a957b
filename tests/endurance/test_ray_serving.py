"""voc-serve --ray while replicas end: callers that retry, as voc_cls.client does, lose no call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from threading import Event, Thread

import pytest

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


@pytest.mark.parametrize("ingress", [{}, HAPROXY], ids=["Ray's proxy", "HAProxy"])
def test_replicas_that_are_killed_under_load_cost_no_call(ingress: dict[str, str], tmp_path: Path):
    (tmp_path / "tiny/1").mkdir(parents=True)
    export_tiny_ir(tmp_path / "tiny/1")
    command = [sys.executable, "-c", "from serving.cli import main; main()", "--ray", "--replicas", "2",
               "--replica-cpus", "0.5", "--model-dir", str(tmp_path / "tiny"), "--port", str(PORT),
               "--http-port", str(PORT + 1)]
    mark, ends, over = f"VOC_MARK={tmp_path}", Counter[str](), Event()
    environment = {**os.environ, **ingress, "RAY_ADDRESS": "local", "VOC_MARK": str(tmp_path)}

    def call_again_and_again() -> None:
        with Client(f"127.0.0.1:{PORT}", timeout=60) as client:
            while not over.is_set():
                try:
                    client.classify([encoded(smooth(60, 80), "JPEG")])
                    ends["OK"] += 1
                except CallError as error:
                    ends[f"{error.code.name}: {error}"] += 1

    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ready on" in process.stdout.readline()
        threads = [Thread(target=call_again_and_again) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(2)
            os.kill(replicas(mark)[0], signal.SIGKILL)
            deadline = time.monotonic() + 60
            while len(replicas(mark)) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            time.sleep(3)  # it loads
        over.set()
        for thread in threads:
            thread.join()
        process.terminate()
        process.wait(90)
    assert list(ends) == ["OK"], ends
