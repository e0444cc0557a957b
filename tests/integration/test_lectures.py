"""The lectures' exercises C and E on a few generated pictures: trained, resumed, evaluated, exported, asked."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import voc_cls as vc
from tests.cifar10 import drawn, write_python
from tests.commands import command_in_process as command
from voc_cls.nets.registry import NETS
from voc_cls.weights.formats import NPZ

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def pool2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of lecture C on ten pictures a batch of CIFAR-10, 6 steps with a validation after each."""
    folder = tmp_path_factory.mktemp("c")
    cifar, random = write_python(folder, drawn(40)), np.random.default_rng(0)
    layers = [(1, 1, 3, 64), (1, 2, 64, 64), (2, 1, 64, 128), (2, 2, 128, 128), (3, 1, 128, 256)]
    arrays = {}
    for block, number, inputs, filters in layers:
        arrays[f"conv{block}_{number}_W"] = random.normal(0, 0.05, (3, 3, inputs, filters)).astype(np.float32)
        arrays[f"conv{block}_{number}_b"] = np.zeros(filters, np.float32)
    NPZ.write(folder / "vgg16-conv-weights.npz", arrays)
    done = command("voc-train", "--config", CONFIGS / "cifar10_vgg16_npz_pool2.yaml", "--root", cifar, "--weights",
                   folder / "vgg16-conv-weights.npz", "--out", folder / "run", "--steps", 7, "--interval", 1,
                   "--batch-size", 10, "--cache-dir", folder / "cache")
    assert done.returncode == 0, done.stderr
    assert "m_fc8 and what follows, on the frozen backbone's features (float32)" in done.stdout
    return folder / "run"


def test_c_keeps_five_checkpoints_and_records_its_cut(pool2: Path):
    assert [path.name for path in sorted((pool2 / "checkpoints").iterdir())] == [
        f"step-{step:08}.npz" for step in range(3, 8)]
    recorded = yaml.safe_load((pool2 / "config.yaml").read_text())
    assert (recorded["network"]["cut"], recorded["network"]["head"]) == ("pool2", "flatten")
    assert recorded["provenance"]["preprocessing"]["mean"] == [123.68, 116.779, 103.939]
    lines = [json.loads(line) for line in (pool2 / "metrics.jsonl").read_text().splitlines()]
    assert all({"loss", "val_loss", "val_accuracy"} <= set(line) for line in lines)
    assert command("voc-train", "--out", pool2, "--resume").returncode == 0


def test_c_is_opened_evaluated_and_exported_as_it_was_cut(pool2: Path, tmp_path: Path):
    run = vc.open_run(pool2)
    assert run.network.entries["m_fc8"].shape[1:] == (1, 1, 8192)
    assert "vgg_16 up to pool2, head flatten" in repr(run)
    sheet = command("voc-eval", pool2, "--sheet", tmp_path / "ten.png", "--json", tmp_path / "eval.json", "--no-write")
    assert sheet.returncode == 0, sheet.stderr
    refused = command("voc-eval", pool2, "--tta", "multi-scale")
    assert "not with --head flatten" in refused.stderr
    version = vc.export(run, tmp_path / "models" / "c")  # verified against the run
    metadata = json.loads((version / "assets" / "voc_cls.json").read_text())
    assert (metadata["cut"], metadata["head"], metadata["preprocessing"]["size"]) == ("pool2", "flatten", 32)
    assert "`vgg_16` up to `pool2` with the `flatten` head" in (version / "MODEL_CARD.md").read_text()


def test_e_trains_on_its_augmentation_and_writes_the_table_of_the_test_list(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Exercise 2, which has all of the others' settings and one more."""
    spec = NETS["resnet_v2_50"]
    monkeypatch.setitem(NETS, spec.name, replace(spec, blocks=tuple((depth // 16, 1) for depth, _ in spec.blocks)))
    random = np.random.default_rng(0)
    for number in range(36):
        split = "test" if number >= 28 else "val_1" if number >= 20 else "train_1"
        path = tmp_path / f"{split}.{number}.png"
        Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
        with (tmp_path / f"{split}.csv").open("a") as file:
            file.write("path,class\n" * (file.tell() == 0) + f"{path.name},{['cat', 'dog'][number % 2]}\n")
    run = tmp_path / "run"
    config = CONFIGS / "dogs_vs_cats_resnet50_v2_frozen.yaml"
    done = command("voc-train", "--config", config, "--root", tmp_path, "--fold", 1, "--weights",
                   "none", "--image-size", 32, "--batch-size", 4, "--steps", 4, "--interval", 1, "--out", run)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    opened = vc.open_run(run)
    assert opened.network.grid.shape[1:] == (1, 1, 128)
    done = command("voc-eval", run, "--split", "test", "--table", tmp_path / "table.csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert list(rows[0]) == ["files", "y_true", "y_pred"]
    assert [row["y_true"] for row in rows] == ["0", "1"] * 4
    accuracy = np.mean([round(float(row["y_pred"])) == int(row["y_true"]) for row in rows])
    assert json.loads((run / "evaluation.json").read_text())["accuracy"] == pytest.approx(accuracy)
