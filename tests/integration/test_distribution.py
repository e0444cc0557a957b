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
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.commands import BIN, command, command_in_process

FLAGS = ("--train-split", "train", "--eval-split", "none", "--weights", "none", "--head", "gap",
         "--image-size", 64, "--batch-size", 8)
HEAD = (*FLAGS, "--val-split", "val", "--trainable", "head", "--steps", 240, "--interval", 40,
        "--lr", 0.05, "--schedule", "plateau", "--plateau-patience", 1)
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None,
                               reason='JAX is not installed: pip install "voc-cls[jax]"')


@pytest.fixture(scope="module")
def jax_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Programs that JAX has compiled, and features, serve all the processes here."""
    shared = tmp_path_factory.mktemp("shared")
    return {"KERAS_BACKEND": "jax", "VOC_CACHE_DIR": str(shared / "voc"), "COLUMNS": "100",
            "JAX_COMPILATION_CACHE_DIR": str(shared / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def start(flags: tuple[object, ...], out: Path, environment: dict[str, str],
          own: tuple[tuple[object, ...], ...] = ((), ())) -> list[subprocess.Popen[str]]:
    """Two voc-train, as a launcher starts them: the same flags, the rank from the environment. own: flags of each."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = [str(BIN / "voc-train"), *map(str, flags), "--out", str(out), "--hosts", "2"]
    return [subprocess.Popen([*arguments, *map(str, flags_of_one)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True,
                             env={**os.environ, **environment, "VOC_COORDINATOR": address, "VOC_RANK": str(rank)})
            for rank, flags_of_one in enumerate(own)]


def end(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of each, once all have ended."""
    outputs = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


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


def wait_for(file: Path, processes: list[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + 200
    while not file.exists():
        assert all(process.poll() is None for process in processes), end(processes)
        assert time.monotonic() < deadline
        time.sleep(0.01)


@needs_jax
def test_two_processes_stopped_and_resumed_give_the_weights_of_a_single_one(
        devkit: Path, tmp_path: Path, jax_environment: dict[str, str]):
    one, two = tmp_path / "one", tmp_path / "two"
    flags = ("--root", devkit, *HEAD)
    alone = command("voc-train", *flags, "--out", one, **jax_environment)
    assert alone.returncode == 0, alone.stderr

    processes = start(flags, two, jax_environment)
    wait_for(two / "config.yaml", processes)
    processes[1].send_signal(signal.SIGTERM)  # on one of them: all stop after the same step, JAX takes a second
    for code, _, said in end(processes):
        assert code == 128 + signal.SIGTERM, said
        assert "--resume" in said
    (saved,) = (two / "checkpoints").glob("step-*.npz")
    assert 0 < int(saved.stem[5:]) < 240

    (chief, shown, _), (other, silent, _) = end(start((*flags, "--resume"), two, jax_environment))
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
def test_a_killed_process_ends_the_other_with_a_sentence(devkit: Path, tmp_path: Path, jax_environment: dict[str, str]):
    flags = ("--root", devkit, *FLAGS, "--val-split", "none", "--trainable", "head", "--steps", 100_000)
    processes = start(flags, tmp_path / "run", jax_environment)
    wait_for(tmp_path / "run/metrics.jsonl", processes)
    processes[1].kill()
    (code, _, said), _ = end(processes)
    assert code == 1, said
    assert "voc-train: error: rank 0 lost the others" in said, said
    assert "--resume" in said


@needs_jax
def test_processes_with_other_flags_do_not_train_together(devkit: Path, tmp_path: Path,
                                                          jax_environment: dict[str, str]):
    flags = ("--root", devkit, *FLAGS, "--val-split", "none", "--trainable", "head", "--steps", 100)
    for code, _, said in end(start(flags, tmp_path / "run", jax_environment, own=(("--seed", 0), ("--seed", 1)))):
        assert code == 1
        assert "rank 1 has other flags than rank 0" in said
    assert not (tmp_path / "run").exists()


def test_hosts_need_the_jax_backend_a_rank_and_an_address(devkit: Path, tmp_path: Path):
    flags = ("--root", devkit, *FLAGS, "--hosts", 2, "--out", tmp_path / "run")
    done = command_in_process("voc-train", *flags)
    assert done.returncode == 2
    assert "KERAS_BACKEND=jax" in done.stderr


def test_two_devices_of_one_process_give_the_weights_of_one(devkit: Path, tmp_path: Path):
    program = Path(__file__).with_name("mirrored_program.py")
    done = subprocess.run([sys.executable, str(program), str(devkit), str(tmp_path)], capture_output=True, text=True,
                          check=False, timeout=300, env={**os.environ, "VOC_CACHE_DIR": str(tmp_path / "cache")})
    assert done.returncode == 0, done.stderr
    assert largest_difference(tmp_path / "1", tmp_path / "2") < 1e-5
    assert metrics(tmp_path / "2")[-1]["val_map"] == pytest.approx(metrics(tmp_path / "1")[-1]["val_map"])
