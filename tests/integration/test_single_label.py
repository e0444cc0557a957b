"""Pictures of one class each, the whole way: trained, evaluated, drawn, exported, served, asked."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import tensorflow as tf
import yaml
from lxml import html
from PIL import Image
from rich.console import Console

from tests.commands import command_in_process as command
from tests.integration.serving.conftest import Server, Start
from tests.pictures import encoded, lying, smooth
from voc_cls.client import Client
from voc_cls.errors import UsageError
from voc_cls.training.config import DatasetConfig, LossConfig, NetworkConfig, RunConfig, TrainConfig
from voc_cls.training.session import train
from voc_cls.training.trained_run import open_run

LEAVES = {"ash": (90, 90, 90), "beet": (150, 30, 60), "cress": (40, 150, 50), "dill": (60, 80, 170)}
"""Class → colour of its pictures, which random convolutions can tell apart."""


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each class: 14 pictures of 32 × 32 pixels to train on, 6 to test."""
    root, random = tmp_path_factory.mktemp("data") / "leaves", np.random.default_rng(0)
    for split, number in (("train", 14), ("test", 6)):
        for name, colour in LEAVES.items():
            (root / split / name).mkdir(parents=True)
            for index in range(number):
                pixels = np.clip(np.array(colour) + random.normal(0, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def run(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head trained on random convolutions, watched on a validation part."""
    folder = tmp_path_factory.mktemp("runs") / "leaves"
    done = command("voc-train", "--data", "folder", "--root", leaves, "--head", "gap", "--trainable", "head",
                   "--weights", "none", "--image-size", 64, "--steps", 100, "--batch-size", 8, "--val-fraction", 0.3,
                   "--schedule", "plateau", "--early-stopping", 5, "--out", folder)
    assert done.returncode == 0, done.stderr
    assert "softmax cross-entropy" in done.stdout
    assert "val_accuracy" in done.stdout
    return folder


def test_training_is_watched_by_accuracy_and_ends_with_all_results(run: Path):
    recorded = yaml.safe_load((run / "config.yaml").read_text())["provenance"]
    assert recorded["task"] == "single-label"
    assert recorded["preprocessing"]["size"] == 64
    assert recorded["preprocessing"]["mean"] == [123.68, 116.78, 103.94]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all({"val_accuracy", "val_loss"} <= set(line) and "val_map" not in line for line in lines)
    assert not (run / "thresholds.json").exists()
    assert json.loads((run / "calibration.json").read_text())["temperature"] > 0
    values = json.loads((run / "evaluation.json").read_text())
    assert values["task"] == "single-label"
    assert values["accuracy"] > 0.5  # by chance it would be a quarter
    assert {"map", "map_11pt", "classes", "difficult", "confusion", "log_loss", "top_3"} <= set(values)
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["truth"] == row["predicted"] for row in rows)
    assert right / len(rows) == values["accuracy"]
    assert all(sum(float(row[name]) for name in LEAVES) == pytest.approx(1, abs=1e-5) for row in rows)
    assert html.parse(str(run / "report.html")).xpath("//table[contains(@class, 'confusion')]")


def test_evaluating_draws_a_sheet_of_samples(run: Path, leaves: Path, tmp_path: Path):
    done = command("voc-eval", run, "--split", "train", "--sheet", tmp_path / "sheet.png", "--json",
                   tmp_path / "out.json", COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines()[:-2])) <= 80
    assert json.loads((tmp_path / "out.json").read_text())["pictures"] == 56
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2 * sheet.height > 1000  # ten pictures: two rows of five
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "test.csv").write_text(f"path,labels\n{leaves / 'test/ash/0.png'},ash|beet\n")
    (lists / "classes.txt").write_text("".join(f"{name}\n" for name in LEAVES))
    refused = command("voc-eval", run, "--data", "csv", "--root", lists, "--split", "test")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "multi-label data set, the run was trained on a single-label one" in refused.stderr


def test_a_loss_of_the_other_task_is_refused_before_anything_is_written(leaves: Path, tmp_path: Path):
    config = TrainConfig(DatasetConfig((leaves,), "folder"), NetworkConfig("none"), loss=LossConfig("focal"),
                         run=RunConfig(tmp_path / "run"))
    with pytest.raises(UsageError, match=r"^`loss` focal: not for a single-label data set"):
        train(config, Console(quiet=True))
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's export, version 1."""
    folder = tmp_path_factory.mktemp("models") / "leaves"
    done = command("voc-export", run, folder)
    assert done.returncode == 0, done.stderr
    return folder / "1"


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves the run's export."""
    starter = Start(tmp_path_factory.mktemp("server"))
    yield starter(exported.parent).wait_until_ready()
    starter.end_all()


def test_a_run_predicts_the_other_images_where_some_cannot_be_decoded(run: Path, leaves: Path, tmp_path: Path):
    good = sorted(leaves.glob("test/*/0.png"))[:2]
    (tmp_path / "text.jpg").write_text("no picture")
    damaged = bytearray(good[0].read_bytes())
    damaged[len(damaged) // 2] ^= 255  # its header and its end are right
    (tmp_path / "damaged.png").write_bytes(damaged)
    files = (good[0], tmp_path / "text.jpg", tmp_path / "damaged.png", good[1], tmp_path / "none.jpg")
    done = command("voc-predict", *files, "--run", run, "--top-k", 1, "--csv", tmp_path / "out.csv")
    assert done.returncode == 1
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == list(map(str, files))
    assert [bool(row["label"]) for row in rows] == [True, False, False, True, False]
    assert [bool(row["error"]) for row in rows] == [False, True, True, False, True]
    assert [str(file) in done.stderr for file in files] == [False, True, True, False, True]
    assert done.stderr.splitlines()[-1] == "voc-predict: error: 3 of 5 pictures failed, see above"


def test_the_export_is_served_and_answers_as_the_run_does(run: Path, leaves: Path, tmp_path: Path, server: Server):
    files = sorted(leaves.glob("test/*/0.png"))
    with Client(server.address) as client:
        served = client.classify(files)
        assert client.model().metrics["accuracy"] == json.loads((run / "evaluation.json").read_text())["accuracy"]
    done = command("voc-predict", *files, "--run", run, "--top-k", 0, "--json-file", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    for entry, prediction in zip(json.loads((tmp_path / "out.json").read_text())["pictures"], served, strict=True):
        assert entry["activation"] == prediction.activation == "softmax"
        here = {scored["label"]: scored["probability"] for scored in entry["labels"]}
        there = {scored.label: scored.probability for scored in prediction.labels}
        assert there == pytest.approx(here, abs=0.02)  # the run predicts in bfloat16 where the hardware has it
        assert sum(there.values()) == pytest.approx(1, abs=1e-5)


def test_all_eight_orientations_get_one_answer_wherever_they_are_asked(run: Path, exported: Path, server: Server,
                                                                       tmp_path: Path):
    upright, contents = smooth(96, 64), []
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        contents += [lying(upright, kind, orientation) for orientation in range(1, 9)]
    files = [tmp_path / f"{number:02}.jpg" for number in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    in_graph = contents[:16]
    signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
    alone = signature(image_bytes=tf.constant(in_graph))["probabilities"].numpy()
    rest = requests.post(f"{server.http}/v1/models/leaves:predict", timeout=60, proxies={"http": ""},
                         json={"instances": [{"b64": base64.b64encode(content).decode()} for content in contents]})
    with Client(server.address) as client:
        grpc = [[scored.probability for name in sorted(LEAVES) for scored in prediction.labels if scored.label == name]
                for prediction in client.classify(files)]
    here = open_run(run).predict(files).probabilities
    for answers in (alone, grpc, rest.json()["predictions"], here):
        np.testing.assert_allclose(answers, [alone[0]] * len(answers), atol=0.02)
    turned = signature(image_bytes=tf.constant([encoded(np.rot90(upright), "PNG")]))["probabilities"].numpy()
    assert np.abs(turned - alone[0]).max() > 0.03  # or the test would not notice


def test_what_is_refused_is_refused_in_the_words_of_the_server(run: Path, server: Server, tmp_path: Path):
    (tmp_path / "dark.png").write_bytes(encoded(np.full((8, 8), 4095, np.uint16), "PNG"))
    said = [command("voc-predict", tmp_path / "dark.png", *where).stderr
            for where in (("--run", run), ("--server", server.address))]
    for sentence in said:
        assert "dark.png" in sentence
        assert "is a PNG of 16 bits a sample whose values are all below 16,384 (of 65,535)" in sentence
