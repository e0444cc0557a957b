"""Several devices and several processes end with the weights that one would have."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.commands import command_in_process
from tests.forked import ForkedProcess
from tests.integration import mirrored_program

ROOT = Path(__file__).parents[2]
FLAGS = ("--train-split", "train", "--eval-split", "none", "--weights", "none", "--head", "gap",
         "--net", "alexnet_v2", "--image-size", 67, "--batch-size", 8)  # small: each rank compiles it
HEAD = (*FLAGS, "--val-split", "val", "--trainable", "head", "--steps", 240, "--interval", 40,
        "--lr", 0.05, "--schedule", "plateau", "--plateau-patience", 1)
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None,
                               reason='JAX is not installed: pip install "voc-cls[jax]"')


class Launcher:
    """Starts voc-train as a launcher does, in processes that preloaded_ranks.py forks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # programs that JAX has compiled, and features, serve all the processes here; compiled quickly, for few steps
        self._environment = {**os.environ, "KERAS_BACKEND": "jax", "VOC_CACHE_DIR": str(folder / "voc"),
                             "COLUMNS": "100", "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
                             "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
                             "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        self._server = subprocess.Popen([sys.executable, "-m", "tests.integration.preloaded_ranks"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
                                        env=self._environment)
        self._started = 0

    def ask(self, question: dict[str, Any]) -> Any:
        """What preloaded_ranks.py answers."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(question), file=self._server.stdin, flush=True)
        return json.loads(self._server.stdout.readline())

    def start(self, flags: tuple[object, ...], **environment: str) -> Rank:
        """One voc-train."""
        output, errors = (self._folder / f"{self._started}.{end}" for end in ("out", "err"))
        self._started += 1
        return Rank(self, self.ask({"arguments": list(map(str, flags)), "output": str(output), "errors": str(errors),
                                    "environment": {**self._environment, **environment}}), output, errors)

    def start_two(self, flags: tuple[object, ...], out: Path,
                  own: tuple[tuple[object, ...], ...] = ((), ())) -> list[Rank]:
        """Two voc-train: the same flags, the rank from the environment. own: flags of each."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        return [self.start((*flags, "--out", out, "--hosts", 2, *flags_of_one), VOC_COORDINATOR=address,
                           VOC_RANK=str(rank)) for rank, flags_of_one in enumerate(own)]

    def close(self) -> None:
        """Ends preloaded_ranks.py, and what a failed test has left."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(60)
        self._server.stdout.close()


@dataclass
class Rank:
    """A voc-train that preloaded_ranks.py has forked."""

    launcher: Launcher
    pid: int
    output: Path
    errors: Path

    def running(self) -> bool:
        return self.launcher.ask({"pid": self.pid, "block": False}) is None

    def end(self) -> tuple[int, str, str]:
        """(exit code, stdout, stderr), once it has ended."""
        code = self.launcher.ask({"pid": self.pid, "block": True})
        return code, self.output.read_text(), self.errors.read_text()


def end(ranks: list[Rank]) -> list[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of each, once all have ended."""
    return [rank.end() for rank in ranks]


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    started = Launcher(tmp_path_factory.mktemp("ranks"))
    yield started
    started.close()


def weights(run: Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    with h5py.File(run / "last.weights.h5") as file:
        file.visititems(lambda name, item: arrays.update({name: np.asarray(item, np.float64)})
                        if isinstance(item, h5py.Dataset) else None)
    return arrays


def largest_difference(one: Path, other: Path) -> float:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def wait_for(file: Path, ranks: list[Rank]) -> None:
    deadline = time.monotonic() + 200
    while not file.exists():
        assert all(rank.running() for rank in ranks), [rank.errors.read_text() for rank in ranks]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@needs_jax
def test_two_processes_stopped_and_resumed_give_the_weights_of_a_single_one(
        devkit: Path, tmp_path: Path, launcher: Launcher):
    one, two = tmp_path / "one", tmp_path / "two"
    flags = ("--root", devkit, *HEAD)
    code, _, said = launcher.start((*flags, "--out", one)).end()
    assert code == 0, said

    ranks = launcher.start_two(flags, two)
    wait_for(two / "config.yaml", ranks)
    os.kill(ranks[1].pid, signal.SIGTERM)  # on one of them: all stop after the same step, JAX takes a second
    for code, _, said in end(ranks):
        assert code == 128 + signal.SIGTERM, said
        assert "--resume" in said
    (saved,) = (two / "checkpoints").glob("step-*.npz")
    assert 0 < int(saved.stem[5:]) < 240

    (chief, shown, _), (other, silent, _) = end(launcher.start_two((*flags, "--resume"), two))
    assert (chief, other) == (0, 0)
    assert "step 240/240" in shown
    assert "step" not in silent
    assert largest_difference(one, two) < 1e-5
    assert [line["val_map"] for line in metrics(two)] == pytest.approx([line["val_map"] for line in metrics(one)])
    assert [line["lr"] for line in metrics(two)] == pytest.approx([line["lr"] for line in metrics(one)])
    assert metrics(two)[-1]["lr"] < metrics(two)[0]["lr"]  # all ranks lowered it, at the same validation

    evaluated = command_in_process("voc-eval", two, "--split", "val", "--json", tmp_path / "val.json")  # on TensorFlow
    assert evaluated.returncode == 0, evaluated.stderr
    best = max(line["val_map"] for line in metrics(two))
    assert json.loads((tmp_path / "val.json").read_text())["map"] == pytest.approx(best, abs=1e-3)


@needs_jax
def test_a_killed_process_ends_the_other_with_a_sentence(devkit: Path, tmp_path: Path, launcher: Launcher):
    flags = ("--root", devkit, *FLAGS, "--val-split", "none", "--trainable", "head", "--steps", 100_000)
    ranks = launcher.start_two(flags, tmp_path / "run")
    wait_for(tmp_path / "run/metrics.jsonl", ranks)
    os.kill(ranks[1].pid, signal.SIGKILL)
    (code, _, said), _ = end(ranks)
    assert code == 1, said
    assert "voc-train: error: rank 0 lost the others" in said, said
    assert "--resume" in said


@needs_jax
def test_processes_with_other_flags_do_not_train_together(devkit: Path, tmp_path: Path, launcher: Launcher):
    flags = ("--root", devkit, *FLAGS, "--val-split", "none", "--trainable", "head", "--steps", 100)
    for code, _, said in end(launcher.start_two(flags, tmp_path / "run", own=(("--seed", 0), ("--seed", 1)))):
        assert code == 1
        assert "rank 1 has other flags than rank 0" in said
    assert not (tmp_path / "run").exists()


def test_hosts_need_the_jax_backend_a_rank_and_an_address(devkit: Path, tmp_path: Path):
    flags = ("--root", devkit, *FLAGS, "--hosts", 2, "--out", tmp_path / "run")
    done = command_in_process("voc-train", *flags)
    assert done.returncode == 2
    assert "KERAS_BACKEND=jax" in done.stderr


def test_two_devices_of_one_process_give_the_weights_of_one(devkit: Path, tmp_path: Path):
    environment = {**os.environ, "VOC_CACHE_DIR": str(tmp_path / "cache")}
    process = ForkedProcess(mirrored_program.run, devkit, tmp_path, tmp_path / "errors", environment)
    try:
        assert process.wait(300) == 0, (tmp_path / "errors").read_text()
    finally:
        process.kill()
    assert largest_difference(tmp_path / "1", tmp_path / "2") < 1e-5
    assert metrics(tmp_path / "2")[-1]["val_map"] == pytest.approx(metrics(tmp_path / "1")[-1]["val_map"])
