"""The data sets of the lectures through the real commands, and what is said of broken ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests.cifar10 import NAMES, drawn, pack, write_python
from tests.commands import command_in_process as command


@pytest.fixture(scope="module")
def cats_and_dogs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat folder as that of Dogs vs. Cats: cat.0.jpg to dog.7.jpg."""
    folder = tmp_path_factory.mktemp("dogs-vs-cats") / "train"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, colour in (("cat", (30, 60, 220)), ("dog", (200, 60, 30))):
        for number in range(8):
            picture = np.clip(random.normal(colour, 25, (30, 40, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"{name}.{number}.jpg"), picture)
    return folder


@pytest.fixture(scope="module")
def folds(cats_and_dogs: Path) -> Path:
    """Its lists: two folds and a test list."""
    out = cats_and_dogs.parent / "lists"
    done = command("voc-data", "split", "--data", "folder", "--root", cats_and_dogs, "--folds", 2, "--test", 0.2,
                   "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"voc-train --data csv --root {out} --fold 1" in done.stdout
    return out


def test_a_fold_is_trained_and_evaluated_on_the_test_list(folds: Path, tmp_path: Path):
    done = command("voc-train", "--data", "csv", "--root", folds, "--fold", 2, "--weights", "none", "--head", "gap",
                   "--trainable", "head", "--image-size", 32, "--steps", 2, "--batch-size", 4,
                   "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    recorded = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["dataset"]
    assert recorded["root"] == [str(folds)]
    assert [recorded[key] for key in ("data", "fold", "train_split", "val_split", "eval_split")] == [
        "csv", 2, "train_2", "val_2", "test"]
    assert (tmp_path / "run/labels.txt").read_text() == "cat\ndog\n"
    for text in ("lists train_2: 6 pictures, 2 classes", "lists val_2: 6 pictures", "lists test: 4 pictures"):
        assert text in done.stdout


def test_a_fold_that_does_not_exist_names_those_that_do(folds: Path, tmp_path: Path):
    done = command("voc-train", "--data", "csv", "--root", folds, "--fold", 3, "--weights", "none",
                   "--out", tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr == f"voc-train: error: --fold 3: {folds} has the folds 1, 2; choose one of them\n"
    assert not (tmp_path / "run").exists()


def test_lists_are_drawn_from_cifar_10_as_it_is_downloaded(tmp_path: Path):
    archive = pack(write_python(tmp_path, drawn(20)), tmp_path / "cifar-10-python.tar.gz")
    done = command("voc-data", "split", "--data", "cifar10", "--root", archive, "--val", 0.2, "--test", 0,
                   "--out", tmp_path / "lists", VOC_CACHE_DIR=str(tmp_path / "cache"))
    assert (done.returncode, done.stderr) == (0, "")
    lines = (tmp_path / "lists/train.csv").read_text().splitlines()
    assert len(lines) == 1 + 80
    first = tmp_path / "lists" / lines[1].split(",")[0]
    assert cv2.imread(str(first)).shape == (32, 32, 3)
    assert (tmp_path / "lists/classes.txt").read_text().split() == list(NAMES)


def half_an_archive(root: Path) -> None:
    pack(write_python(root, drawn(2)), root / "half.tar.gz")
    os.truncate(root / "half.tar.gz", 9000)


def archive_of_something_else(root: Path) -> None:
    (root / "pictures").mkdir()
    pack(root / "pictures", root / "other.tar.gz")


def archive_that_leads_out(root: Path) -> None:
    (root / "pictures").mkdir()
    pack(root / "pictures", root / "evil.tar.gz", {"../evil": b"evil"})


def lists(*lines: str, classes: str = "") -> Callable[[Path], object]:
    def write(root: Path) -> None:
        (root / "train.csv").write_text("\n".join(lines) + "\n")
        if classes:
            (root / "classes.txt").write_text(classes)

    return write


@pytest.mark.parametrize(("make", "data", "root", "found"), [
    (half_an_archive, "cifar10", "half.tar.gz", "half.tar.gz: is not a whole .tar or .tar.gz"),
    (archive_of_something_else, "cifar10", "other.tar.gz", "other.tar.gz: has no cifar-10-batches-py/batches.meta"),
    (archive_that_leads_out, "cifar10", "evil.tar.gz",
     "which leads out of the folder; fetch the official archive with `voc-data download cifar10`"),
    (lists("url,class", "a.jpg,cat"), "csv", "", "train.csv:1: has the columns 'url', 'class'"),
    (lists("path,class", "a.jpg,cta", classes="cat\ndog\n"), "csv", "", "train.csv:2: unknown class 'cta', it is not"),
    (lambda _: None, "folder", "", "is empty; --root takes class folders"),
])
def test_broken_data_sets_are_one_sentence_and_leave_nothing(tmp_path: Path, make: Callable[[Path], object], data: str,
                                                            root: str, found: str):
    (tmp_path / "set").mkdir()
    make(tmp_path / "set")
    before = sorted(tmp_path.rglob("*"))
    done = command("voc-data", "split", "--data", data, "--root", tmp_path / "set" / root, "--out", tmp_path / "lists",
                   VOC_CACHE_DIR=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert done.stderr.startswith("voc-data: error: ")
    assert found in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
