"""A Ray cluster whose machines fail, and training on one: what comes out is what one process gives.

Minutes, as every worker imports TensorFlow or JAX.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
import pytest
from ray.cluster_utils import Cluster

from tests.commands import BIN, command, variables_set
from tests.integration.serving.tiny_model import export_tiny_model
from tests.pictures import encoded, smooth

SMALL = ("--train-split", "train", "--eval-split", "none", "--weights", "none", "--net", "alexnet_v2",
         "--image-size", 67, "--head", "gap")
IMAGES = 1200


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A machine without cores for tasks, where the commands run, and two with one each."""
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    with variables_set({"RAY_ADDRESS": started.address}):
        yield started
    started.shutdown()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(IMAGES):
        (folder / f"{number:04}.jpg").write_bytes(encoded(smooth(40, 60, number), "JPEG"))
    (folder / "0007.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes a second for each batch of the network."""
    folder = tmp_path_factory.mktemp("models") / "slow"
    export_tiny_model(folder / "1", seconds=1)
    return folder


def job(images: Path, model: Path, out: Path) -> subprocess.Popen[str]:
    """voc-predict --ray that writes a file for each task."""
    program = ("import sys; from voc_cls import batch_prediction; from voc_cls.cli.predict import main; "
               "batch_prediction.FILE_ROWS = batch_prediction.TASK_IMAGES; main()")
    return subprocess.Popen([sys.executable, "-c", program, images, "--model", model, "--ray", "--out", out], text=True,
                            stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def wait_for_files(out: Path, count: int) -> None:
    deadline = time.monotonic() + 200
    while len(list(out.glob("*.parquet"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def check_complete(out: Path, images: Path) -> None:
    paths = pyarrow.parquet.read_table(out)["path"].to_pylist()
    assert sorted(paths) == sorted(map(str, images.iterdir()))


def test_a_machine_that_is_killed_loses_no_image_and_none_is_there_twice(
        cluster: Cluster, images: Path, model: Path, tmp_path: Path):
    _, lost = (cluster.add_node(num_cpus=1) for _ in range(2))
    out = tmp_path / "scores"
    running = job(images, model, out)
    wait_for_files(out, 4)
    cluster.remove_node(lost, allow_graceful=False)
    assert "1 of 1,200 pictures failed" in running.communicate(timeout=400)[1]
    check_complete(out, images)


@pytest.mark.parametrize(("number", "environment"), [
    (signal.SIGKILL, {}), (signal.SIGTERM, {}), (signal.SIGINT, {}), (signal.SIGTERM, {"RAY_ADDRESS": "local"})])
def test_a_job_that_is_ended_goes_on_with_the_rest(cluster: Cluster, images: Path, model: Path, tmp_path: Path,
                                                   number: signal.Signals, environment: dict[str, str]):
    cluster.add_node(num_cpus=1)
    out = tmp_path / "scores"
    with variables_set(environment):
        running = job(images, model, out)
    wait_for_files(out, 4)
    running.send_signal(number)
    said = running.communicate(timeout=60)[1]
    if number != signal.SIGKILL:
        assert f"stopped by {number.name}; the same command continues" in said
        assert running.returncode == 128 + number
    files = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert 4 <= len(files) < IMAGES // 64
    assert f"{out}: 1,200 pictures" in job(images, model, out).communicate(timeout=400)[1]
    assert {path: path.stat().st_mtime_ns for path in files} == files
    check_complete(out, images)


def test_features_that_workers_compute_and_trials_that_they_run_are_those_of_one_process(
        cluster: Cluster, devkit: Path, tmp_path: Path):
    cluster.add_node(num_cpus=1)
    trials, weights = [], []
    for name, ray in (("plain", ()), ("ray", ("--ray",))):
        own = ("--root", devkit, *SMALL, "--augment", "none", "--cache-dir", tmp_path / f"cache-{name}", *ray)
        study, run = tmp_path / f"study-{name}", tmp_path / f"run-{name}"
        done = command("voc-tune", *own, "--study", study, "--trials", 2)
        assert done.returncode == 0, done.stderr
        with (study / "trials.csv").open() as file:
            trials.append([{name: value for name, value in row.items() if name != "seconds"}
                           for row in csv.DictReader(file)])
        done = command("voc-train", *own, "--val-split", "val", "--trainable", "head", "--l2", 1e-3, "--out", run)
        assert done.returncode == 0, done.stderr
        weights.append((run / "best.weights.h5").read_bytes())
    assert trials[0] == trials[1]
    assert weights[0] == weights[1]


def test_a_training_whose_machine_is_killed_goes_on_from_its_checkpoint(
        cluster: Cluster, devkit: Path, tmp_path: Path):
    lost = [cluster.add_node(num_cpus=1) for _ in range(2)][1]
    flags = ("--root", devkit, *SMALL, "--val-split", "val", "--trainable", "head", "--batch-size", 8, "--steps", 400,
             "--interval", 40, "--lr", 0.05, "--cache-dir", tmp_path / "cache", "--solver", "descent")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = command("voc-train", *flags, "--out", whole, "--ray", "--workers", 2)
    assert done.returncode == 0, done.stderr
    running = subprocess.Popen([BIN / "voc-train", *map(str, flags), "--out", killed, "--ray", "--workers", "2"],
                               text=True, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not list(killed.glob("checkpoints/step-*.npz")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    cluster.remove_node(lost, allow_graceful=False)
    cluster.add_node(num_cpus=1)
    said = running.communicate(timeout=600)[1]
    assert running.returncode == 0, said
    assert "a process was lost; start 2 of 6, from the last checkpoint" in said
    assert (killed / "last.weights.h5").read_bytes() == (whole / "last.weights.h5").read_bytes()
    assert os.listdir(killed / "checkpoints") == os.listdir(whole / "checkpoints")
