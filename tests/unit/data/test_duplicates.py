"""The same picture twice: what is a warning, what is a problem, and what is meant to be."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.duplicates import apart, find_duplicates
from voc_cls.data.readers.split_scan import SplitScan

CLASSES = ("cat", "dog")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Files with different contents: find_duplicates does not decode."""
    for name in "abcdef":
        (tmp_path / f"{name}.jpg").write_text(name)
    return tmp_path


def split(name: str, *pictures: tuple[Path, str]) -> SplitScan:
    labels = np.array([[label in said.split("+") for label in CLASSES] for _, said in pictures], np.float32)
    dataset = Dataset(name, CLASSES, tuple(path for path, _ in pictures), labels, np.zeros_like(labels, bool),
                      task=Task.MULTI_LABEL)
    return SplitScan(name, dataset, ())


def found_in(*splits: SplitScan) -> tuple[list[str], list[str]]:
    paths = dict.fromkeys(itertools.chain.from_iterable(part.dataset.paths for part in splits))
    return find_duplicates(splits, {path: path.read_text() for path in paths})


def test_different_pictures_in_different_splits_are_in_order(pictures: Path):
    train = split("train", (pictures / "a.jpg", "cat"), (pictures / "b.jpg", "cat"))
    assert found_in(train, split("test", (pictures / "c.jpg", "cat"))) == ([], [])


def test_a_copy_with_the_same_labels_in_one_split_is_a_warning_that_names_both(pictures: Path):
    shutil.copy(pictures / "a.jpg", pictures / "copy.jpg")
    problems, warnings = found_in(split("train", (pictures / "a.jpg", "cat"), (pictures / "copy.jpg", "cat")))
    assert problems == []
    assert warnings == [f"{pictures}/a.jpg: is byte for byte {pictures}/copy.jpg, both in train; it counts every "
                        "time, remove one"]


def test_a_copy_with_other_labels_in_one_split_is_a_problem(pictures: Path):
    shutil.copy(pictures / "a.jpg", pictures / "copy.jpg")
    problems, warnings = found_in(split("train", (pictures / "a.jpg", "cat"), (pictures / "copy.jpg", "cat+dog")))
    assert warnings == []
    assert [problem.count("labelled cat and cat, dog; one label is wrong") for problem in problems] == [1]


def test_a_copy_in_another_split_is_a_problem_that_names_both_places_once(pictures: Path):
    for name in ("copy", "again"):
        shutil.copy(pictures / "a.jpg", pictures / f"{name}.jpg")
    problems, warnings = found_in(split("test", (pictures / "copy.jpg", "cat"), (pictures / "b.jpg", "cat")),
                     split("train", (pictures / "a.jpg", "cat"), (pictures / "again.jpg", "cat")))
    assert warnings == []
    assert problems == [f"{pictures}/copy.jpg: in test, is byte for byte {pictures}/a.jpg in train (there are 3 "
                        "copies); results on training pictures mean nothing, remove one"]


def test_the_same_files_in_two_splits_are_one_problem_with_their_number(pictures: Path):
    files = [(pictures / f"{name}.jpg", "cat") for name in "abcde"]
    problems, warnings = found_in(split("test", *files), split("train", *files, (pictures / "f.jpg", "dog")))
    assert warnings == []
    assert problems == [f"{pictures}/a.jpg, {pictures}/b.jpg, {pictures}/c.jpg and 2 more: in the splits test "
                        "and train, which share 5 pictures; results on training pictures mean nothing, remove "
                        "them from one"]


def test_a_picture_that_a_list_has_twice_is_a_warning(pictures: Path):
    problems, warnings = found_in(split("train", (pictures / "a.jpg", "cat"), (pictures / "a.jpg", "cat")))
    assert problems == []
    assert warnings == [f"{pictures}/a.jpg: more than once in the split train; it counts every time"]


@pytest.mark.parametrize(("one", "other", "are_apart"), [
    ("train", "test", True), ("train", "val", True), ("trainval", "test", True), ("trainval", "train", False),
    ("val", "trainval", False), ("train_1", "val_1", True), ("train_1", "val_2", False), ("train_1", "train_2", False),
    ("train_2", "test", True), ("train_1", "train", False), ("val_1", "train", False), ("train", "train", False),
    ("test_1", "train_1", True),
])
def test_wholes_and_parts_and_different_folds_may_share_pictures(one: str, other: str, are_apart: bool):
    assert apart(one, other) is apart(other, one) is are_apart
