"""What `voc-data check` finds in data sets of every kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cifar10 import drawn, write_python
from voc_cls.data.check import Check, check_dataset
from voc_cls.data.load import scan_dataset


def check(data: str, root: Path, split: str | None = None) -> Check:
    return check_dataset(scan_dataset(data, root, split))


def draw(path: Path, seed: int) -> Path:
    """A small JPEG that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)).save(path, "JPEG")
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Cats and dogs in train and test, four of each."""
    for number, (split, name) in enumerate((split, name) for split in ("train", "test") for name in ("cat", "dog")):
        for picture in range(4):
            draw(tmp_path / "pets" / split / name / f"{picture}.jpg", 10 * number + picture)
    return tmp_path / "pets"


@pytest.fixture
def lists(tree: Path) -> Path:
    """The same pictures as lists."""
    for split in ("train", "test"):
        lines = [f"{path.relative_to(tree)},{path.parent.name}" for path in sorted(tree.glob(f"{split}/*/*.jpg"))]
        (tree / f"{split}.csv").write_text("\n".join(["path,class", *lines, ""]))
    return tree


def garble(path: Path) -> None:
    """Spoils what only decoding sees."""
    path.write_bytes(path.read_bytes().replace(b"\xff\xda", b"\xff\xe5"))


def test_trees_and_lists_in_order_have_no_problem(lists: Path):
    assert check("csv", lists) == Check("csv", "pets", ("test", "train"), 16, (), ())
    assert check("folder", lists).problems == ()


def test_in_a_tree_every_kind_of_problem_is_found_at_once(tree: Path):
    garble(tree / "train/cat/1.jpg")
    (tree / "train/cat/2.jpg").write_bytes((tree / "train/cat/2.jpg").read_bytes()[:-40])
    shutil.copy(tree / "train/dog/0.jpg", tree / "test/cat/copy.jpg")
    shutil.copy(tree / "train/dog/3.jpg", tree / "train/dog/again.jpg")
    found = check("folder", tree)
    assert [problem.removeprefix(f"{tree}/").split(":")[0] for problem in found.problems] == [
        "train/cat/2.jpg", "train/cat/1.jpg", "test/cat/copy.jpg"]
    assert "is a truncated JPEG" in found.problems[0]
    assert "cannot be decoded (" in found.problems[1]
    assert f"is byte for byte {tree}/train/dog/0.jpg in train, labelled cat and dog" in found.problems[2]
    assert [warning.removeprefix(f"{tree}/").split(":")[0] for warning in found.warnings] == ["train/dog/3.jpg"]


def test_in_lists_missing_files_unknown_classes_and_shared_pictures_are_found_with_their_lines(lists: Path):
    (lists / "classes.txt").write_text("cat\ndog\nhorse\n")
    (lists / "train/cat/0.jpg").unlink()
    draw(lists / "new.jpg", 99)
    with (lists / "train.csv").open("a") as file:
        file.write("test/dog/0.jpg,dog\nnew.jpg,dgo\n")
    problems = [problem.replace(f"{lists}/", "") for problem in check("csv", lists).problems]
    assert len(problems) == 4
    assert problems[0].startswith("train.csv:11: unknown class 'dgo'")
    assert problems[1].startswith("train.csv:2: train/cat/0.jpg: no such file")
    assert problems[2].startswith("test/dog/0.jpg: in the splits test and train, which share 1 picture;")
    assert problems[3] == (f"{lists}: no picture shows the class 'horse'; add one, or remove the class from the "
                           "list of classes")


def test_a_class_that_one_split_lacks_is_a_warning(lists: Path):
    (lists / "test.csv").write_text("path,class\ntest/cat/0.jpg,cat\n")
    found = check("csv", lists)
    assert found.problems == ()
    assert found.warnings == (f"{lists}: the class 'dog' has no picture in test; it cannot be learned or measured "
                              "there",)


def test_test_pictures_without_classes_are_left_out_and_named(tmp_path: Path):
    for seed, name in enumerate(("train/cat.0", "train/dog.0", "test/1", "test/2")):
        draw(tmp_path / f"{name}.jpg", seed)
    found = check("folder", tmp_path)
    assert (found.splits, found.images, found.problems) == (("train",), 2, ())
    assert found.warnings == (f"{tmp_path}: the classes of test are unknown; it was not checked",)


def test_cifar10_is_checked_by_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VOC_CACHE_DIR", str(tmp_path / "cache"))
    batches = drawn(20)
    batches["test_batch"][5] = batches["data_batch_2"][7]
    found = check("cifar10", write_python(tmp_path, batches))
    assert (found.splits, found.images) == (("train", "test"), 120)
    leaks = [problem for problem in found.problems if "byte for byte" in problem]
    assert len(leaks) == 1
    assert " in train, is byte for byte " in leaks[0]
    assert " in test" in leaks[0]


def test_vocs_trainval_may_share_pictures_with_train_but_val_may_not(devkit: Path):
    assert check("voc", devkit).problems == ()
    shutil.copy(devkit / "JPEGImages/000001.jpg", devkit / "JPEGImages/000002.jpg")  # first of train, first of val
    shutil.copy(devkit / "Annotations/000001.xml", devkit / "Annotations/000002.xml")
    text = (devkit / "Annotations/000002.xml").read_text()
    (devkit / "Annotations/000002.xml").write_text(text.replace("000001.jpg", "000002.jpg"))
    for path in (devkit / "ImageSets/Main").glob("*_*.txt"):
        path.unlink()
    found = check("voc", devkit)
    assert [problem.replace(f"{devkit}/", "") for problem in found.problems] == [
        "JPEGImages/000001.jpg: in train, is byte for byte JPEGImages/000002.jpg in val; results on training pictures "
        "mean nothing, remove one"]


def test_a_class_alone_is_a_problem_where_every_picture_has_one(tmp_path: Path):
    draw(tmp_path / "pets/PetImages/1.jpg", 1)
    (problem,) = check("folder", tmp_path / "pets").problems
    assert problem == (f"{tmp_path}/pets: has the class 'PetImages' alone, so there is nothing to distinguish; add "
                       "pictures of another class")


def test_odd_classes_are_warnings_over_all_splits(tree: Path):
    rows = [f"train/{name}/{number}.jpg,pet|{label}" for name, label in (("cat", "Cat"), ("dog", "cat"))
            for number in range(4)]
    (tree / "train.csv").write_text("\n".join(["path,labels", *rows]))
    (tree / "other.csv").write_text("path,class\ntest/cat/0.jpg,cat\ntest/dog/0.jpg,dog\n")
    found = check("csv", tree)
    assert found.problems == ()
    assert [warning.removeprefix(f"{tree}: ") for warning in found.warnings] == [
        "the classes 'cat' and 'Cat' differ in case, blanks or hyphens alone; are they one?",
        "8 of 8 pictures show 'pet', so there is little to learn about it"]
