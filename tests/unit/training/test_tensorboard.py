"""TensorBoard itself, in a process of its own, shows what a run has written."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.commands import BIN
from voc_cls.data.dataset import Dataset, DifficultPolicy, Task
from voc_cls.evaluation.tasks import score
from voc_cls.nets.network import Network, build_network
from voc_cls.training.tensorboard import TensorBoardLog, graph

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.random((30, 3)) < 0.4).astype(np.float32)
LABELS[:, 2] = 0  # no positives
VAL = Dataset("val", ("cat", "dog", "unicorn"), tuple(Path(f"{number}.jpg") for number in range(30)), LABELS,
              np.zeros((30, 3), bool), DifficultPolicy.IGNORE)
LOGITS = (3 * LABELS + RANDOM.normal(size=(30, 3))).astype(np.float32)
PICTURES = np.full((20, 32, 48, 3), 200, np.float32)
INTERVALS = 4
STEPS_AN_INTERVAL = 5


@pytest.fixture(scope="module")
def network() -> Network:
    """The network whose graph is shown."""
    return build_network("vgg_16", "gap", 3, "mixed_bfloat16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Path:
    """A run of four intervals, killed after three, that goes on from its checkpoint after two."""
    out = tmp_path_factory.mktemp("run") / "tensorboard"
    for first, last in ((0, 3), (2, INTERVALS)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        model.compile(keras.optimizers.SGD(0.25), "mse")
        log = TensorBoardLog(out,
                             lambda model=model, first=first: first * STEPS_AN_INTERVAL
                             + int(model.optimizer.iterations.numpy()),
                             network.model, VAL, lambda: (score(VAL, LOGITS), LOGITS), lambda: PICTURES)
        model.fit(np.zeros((10, 2), np.float32), np.ones((10, 3), np.float32), batch_size=2, initial_epoch=first,
                  epochs=last, verbose=0, shuffle=False, callbacks=[log])
    return out


@pytest.fixture(scope="module")
def ask(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Asks a running TensorBoard: `ask("scalars/scalars", tag="loss")`."""
    output = tmp_path_factory.mktemp("board") / "stderr"
    with output.open("w") as file:
        # its slower loader: the fast one drops a step back by itself, whatever the file says
        board = subprocess.Popen([str(BIN / "tensorboard"), "--logdir", str(folder), "--port", "0",
                                  "--load_fast=false"], stdout=file, stderr=file)
    address = ""
    deadline = time.monotonic() + 90
    while not address:
        assert board.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        found = re.search(r"http://\S+:\d+", output.read_text())
        address = found[0] if found else ""
        time.sleep(0.1)

    def answer(path: str, **query: Any) -> Any:
        parts = urllib.parse.urlencode({"run": ".", **query})
        with urllib.request.urlopen(f"{address}/data/plugin/{path}?{parts}", timeout=30) as response:
            body = response.read()
        return json.loads(body) if response.headers["Content-Type"].startswith("application/json") else body

    try:
        while "loss" not in answer("scalars/tags").get(".", {}):  # it reads the files after it has begun to answer
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield answer
    finally:
        board.terminate()
        board.wait(30)


def test_the_scalars_are_loss_learning_rate_and_the_precision_of_every_class_with_positives(ask: Callable[..., Any]):
    assert set(ask("scalars/tags")["."]) == {"loss", "learning_rate", "average_precision/cat", "average_precision/dog"}
    assert [value for _, _, value in ask("scalars/scalars", tag="learning_rate")] == [0.25] * INTERVALS


def test_a_resumed_run_is_one_curve_without_a_step_back(ask: Callable[..., Any]):
    points = ask("scalars/scalars", tag="loss")
    assert [step for _, step, _ in points] == [STEPS_AN_INTERVAL * number for number in range(1, INTERVALS + 1)]
    times = [moment for moment, _, _ in points]
    assert times == sorted(times)


def test_the_pr_curves_are_those_of_the_validation_split(ask: Callable[..., Any]):
    assert set(ask("pr_curves/tags")["."]) == {"validation/cat/pr_curves", "validation/dog/pr_curves"}
    curves = ask("pr_curves/pr_curves", tag="validation/cat/pr_curves")["."]
    assert curves[-1]["step"] == INTERVALS * STEPS_AN_INTERVAL
    assert max(curves[-1]["recall"]) == 1
    assert curves[-1]["true_positives"][0] == LABELS[:, 0].sum()
    probabilities, truth = 1 / (1 + np.exp(-LOGITS[:, 0])), LABELS[:, 0] == 1
    reached = probabilities >= curves[-1]["thresholds"][40]
    assert curves[-1]["true_positives"][40] == (reached & truth).sum()
    assert curves[-1]["precision"][40] == pytest.approx((reached & truth).sum() / reached.sum())


def test_the_sample_pictures_are_pictures(ask: Callable[..., Any]):
    samples = ask("images/images", tag="training_batch", sample=3)
    body = ask("images/individualImage", blob_key=samples[0]["query"].removeprefix("blob_key="))
    assert body.startswith(b"\x89PNG")
    assert ask("images/tags")["."]["training_batch"]["samples"] == 16


def test_the_graph_is_the_whole_network(ask: Callable[..., Any]):
    text = ask("graphs/graph", limit_attr_size=1024, large_attrs_key="_too_large").decode()
    assert 'name: "vgg_16/conv5/conv5_3"' in text
    assert 'input: "vgg_16/conv5/conv5_2"' in text


def test_the_graph_is_a_chain_from_the_pictures_to_the_logits(network: Network):
    nodes = graph(network.model).node
    assert [list(node.input) for node in nodes[1:]] == [[before.name] for before in nodes[:-1]]
    assert [node.name for node in nodes][:2] == ["images", "vgg_16/conv1/conv1_1"]
    assert nodes[1].attr["dtype_policy"].s == b"mixed_bfloat16"
    assert [size.size for size in nodes[1].attr["_output_shapes"].list.shape[0].dim] == [-1, 224, 224, 64]


def test_a_single_label_run_shows_the_curve_of_each_class_against_the_others(tmp_path: Path, network: Network):
    single = replace(VAL, labels=np.eye(3, dtype=np.float32)[np.arange(30) % 3], task=Task.SINGLE_LABEL)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    latest = score(single, LOGITS), LOGITS
    log = TensorBoardLog(tmp_path, lambda: 1, network.model, single, lambda: latest)
    model.fit(np.zeros((2, 2)), np.zeros((2, 3)), verbose=0, callbacks=[log])
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(
        [str(path) for path in tmp_path.iterdir()])]
    values = {value.tag: value for event in events for value in event.summary.value}
    assert set(values) == {"loss", "learning_rate", "recall/cat", "recall/dog", "recall/unicorn",
                           *(f"validation/{name}/pr_curves" for name in ("cat", "dog", "unicorn"))}
    assert values["loss"].metadata.plugin_data.plugin_name == "scalars"


def test_an_interval_costs_milliseconds(tmp_path: Path, network: Network):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    latest = score(VAL, LOGITS), LOGITS
    log = TensorBoardLog(tmp_path, lambda: 0, network.model, VAL, lambda: latest)
    log.set_model(model)
    log.set_params({"epochs": 200})
    log.on_train_begin()
    started = time.process_time()
    for epoch in range(200):
        log.on_epoch_end(epoch, {"loss": 1.0})
    assert time.process_time() - started < 200 * 0.03
    log.on_train_end()
