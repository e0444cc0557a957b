"""`make endurance`: voc-train killed again and again, at random moments, ends as if it had never been."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.commands import BIN, command

KILLS = 20
FLAGS = ("--train-split", "train", "--val-split", "val", "--eval-split", "none", "--weights", "none", "--seed", 3,
         "--batch-size", 8, "--interval", 20, "--ema", 0.99, "--schedule", "plateau", "--plateau-patience", 3,
         "--keep-checkpoints", 2)
HEAD = ("--head", "gap", "--trainable", "head", "--steps", 16000)


def weights(path: Path) -> list[np.ndarray]:
    arrays: list[np.ndarray] = []
    with h5py.File(path) as file:
        file.visititems(lambda _, item: arrays.append(np.asarray(item)) if isinstance(item, h5py.Dataset) else None)
    assert arrays
    return arrays


def logged(run: Path) -> list[dict[str, Any]]:
    text = (run / "metrics.jsonl").read_text() if (run / "metrics.jsonl").exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def start(*args: object) -> subprocess.Popen[str]:
    return subprocess.Popen([str(BIN / "voc-train"), *map(str, args)], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)


def assert_same(killed: Path, whole: Path) -> None:
    for file in ("last.weights.h5", "last.raw.weights.h5", "best.weights.h5"):
        for ours, theirs in zip(weights(killed / file), weights(whole / file), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert logged(killed) == logged(whole)


def test_a_run_killed_twenty_times_ends_with_the_same_weights(devkit: Path, tmp_path: Path):
    flags = ("--root", devkit, "--cache-dir", tmp_path / "cache", *FLAGS, *HEAD)
    whole = tmp_path / "whole"
    begun = time.monotonic()
    uninterrupted = start(*flags, "--out", whole)
    while not (whole / "metrics.jsonl").exists() and uninterrupted.poll() is None:
        time.sleep(0.05)
    startup = time.monotonic() - begun
    _, errors = uninterrupted.communicate()
    assert uninterrupted.returncode == 0, errors
    life = (time.monotonic() - begun - startup) / KILLS
    moments = random.Random(0)
    ends, runs = [], 1
    while len(ends) < KILLS:
        killed = tmp_path / f"killed{runs}"
        process = start(*flags, "--out", killed, *(["--resume"] if (killed / "config.yaml").exists() else []))
        try:
            process.wait(moments.uniform(0.3 * startup, startup + life))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM if len(ends) % 4 == 3 else signal.SIGKILL)
        _, errors = process.communicate()
        if process.returncode == 0:  # it has come to its end between two kills: on with another
            assert_same(killed, whole)
            runs += 1
            continue
        assert process.returncode in (-signal.SIGKILL, -signal.SIGTERM, 143), f"{process.returncode}: {errors}"
        ends.append((process.returncode, max((line["step"] for line in logged(killed)), default=0)))
    print(f"(exit code, last validated step) of {KILLS} kills in {runs} runs: {ends}")
    for number in range(1, runs + 1):
        killed = tmp_path / f"killed{number}"
        if (killed / "config.yaml").exists():
            resumed = command("voc-train", *flags, "--out", killed, "--resume")
            assert resumed.returncode == 0, resumed.stderr
            assert_same(killed, whole)
