"""An engine lives in a process of its own: it computes what the SavedModel does, and ends when it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.config.config import available_cores
from serving.engine import process
from serving.engine.process import EngineLost, EngineProcess, LoadRequest
from serving.errors import ServeError
from serving.telemetry.metrics import process_usage
from tests.forked import FORKS_OF
from tests.integration.serving.conftest import until
from tests.integration.serving.forked_server import ForkedWorkers
from tests.integration.serving.tiny_model import SIZE, export_tiny_model
from voc_cls.model_metadata import read_metadata

SIZES = (1, 2, 4)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines are forked from a process that has imported TensorFlow: they start in a moment."""
    FORKS_OF.ensure_running()
    monkeypatch.setattr(process, "subprocess", ForkedWorkers)


@pytest.fixture
def start_engine() -> Iterator[Callable[[Path], EngineProcess]]:
    """Starts engines, and ends those that a test has left."""
    engines: list[EngineProcess] = []

    def start(version: Path) -> EngineProcess:
        labels = len(read_metadata(version).labels)
        engines.append(EngineProcess(LoadRequest(version, "float32", available_cores(), SIZE, labels, SIZES,
                                                 background=len(engines) > 0)))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


def exists(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_engine_that_loads_beside_another_computes_with_as_many_threads_and_cores_afterwards(
        start_engine: Callable[[Path], EngineProcess], model: Path) -> None:
    def threads(engine: EngineProcess) -> list[int]:
        """For each thread, on how many cores it may run."""
        engine.wait_until_loaded()
        return [len(os.sched_getaffinity(int(thread))) for thread in os.listdir(f"/proc/{engine.pid}/task")]

    first, second = (threads(start_engine(model / "10")) for _ in range(2))
    assert set(first) == set(second) == {len(os.sched_getaffinity(0))}
    assert len(second) >= len(first)


@pytest.mark.usefixtures("forked")
def test_batches_of_every_size_are_what_the_saved_model_computes_and_a_killed_engine_says_so(
        model: Path, saved_model: Any, start_engine: Callable[[Path], EngineProcess]) -> None:
    engine = start_engine(model / "10")
    engine.wait_until_loaded()
    assert len(engine.warm_up_seconds) == len(SIZES)
    assert engine.description.startswith(f"TensorFlow {tf.__version__}, ")
    for size in (*SIZES, 1):
        inputs = np.random.default_rng(size).normal(0, 50, (size, SIZE, SIZE, 3)).astype(np.float32)
        expected = saved_model.signatures["predict_tensors"](inputs=tf.constant(inputs))
        scores = engine.predict(list(inputs))
        np.testing.assert_allclose(scores.probabilities, expected["probabilities"].numpy(), atol=1e-6)
        np.testing.assert_allclose(scores.logits, expected["logits"].numpy(), rtol=1e-5, atol=1e-5)
    assert process_usage(engine.pid)
    os.kill(engine.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(EngineLost, match=rf"process {engine.pid} ended with signal 9 \(out of memory\?\)"):
            engine.predict([np.zeros((SIZE, SIZE, 3), np.float32)])
    assert not process_usage(engine.pid)


@pytest.mark.usefixtures("forked")
def test_loading_can_be_broken_off(tmp_path: Path, start_engine: Callable[[Path], EngineProcess]) -> None:
    engine = start_engine(export_tiny_model(tmp_path / "1", seconds=30))  # 90 s of warming up
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            engine.wait_until_loaded()
        except ServeError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.5)
    begun = time.monotonic()
    engine.close()
    waiting.join(10)
    assert time.monotonic() - begun < 10
    assert not exists(engine.pid)
    assert f"{tmp_path / '1'} cannot be loaded: its engine's process {engine.pid} ended" in str(errors[0])


@pytest.mark.usefixtures("forked")
def test_an_engine_that_hangs_while_it_loads_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                       start_engine: Callable[[Path], EngineProcess]) -> None:
    monkeypatch.setattr(process, "LOAD", 0.1)
    engine = start_engine(export_tiny_model(tmp_path / "1", seconds=30))
    os.kill(engine.pid, signal.SIGSTOP)
    with pytest.raises(ServeError, match=rf"1 cannot be loaded: .*{engine.pid} did not answer for 1 s and is killed"):
        engine.wait_until_loaded()
    until(lambda: not exists(engine.pid))
    assert engine.hung


@pytest.mark.usefixtures("forked")
def test_a_version_whose_variables_are_damaged_is_one_sentence(tmp_path: Path,
                                                               start_engine: Callable[[Path], EngineProcess]) -> None:
    version = export_tiny_model(tmp_path / "1")
    next((version / "variables").glob("*.data*")).write_bytes(b"cut off")
    with pytest.raises(ServeError) as error:
        start_engine(version).wait_until_loaded()
    assert str(error.value).startswith(f"{version} cannot be loaded (")
    assert "\n" not in str(error.value)


STARTER = """
import sys, time
from pathlib import Path
from serving.engine.process import EngineProcess, LoadRequest
engine = EngineProcess(LoadRequest(Path(sys.argv[1]), "float32", 2, int(sys.argv[2]), 20, (1,), background=False))
print(engine.pid, flush=True)
time.sleep(600)
"""


def test_an_engine_does_not_outlive_a_server_that_was_killed_even_while_it_computes(tmp_path: Path) -> None:
    version = export_tiny_model(tmp_path / "1", seconds=600)  # it never gets through its warm-up
    with subprocess.Popen([sys.executable, "-c", STARTER, str(version), str(SIZE)], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        try:
            until(lambda: "libtensorflow" in Path(f"/proc/{pid}/maps").read_text())  # so it loads or computes
            time.sleep(1)
            assert exists(pid)
        finally:
            starter.kill()
    until(lambda: not exists(pid), 20)
