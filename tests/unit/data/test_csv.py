"""CSV lists of pictures: both headers, the list of the classes, and everything a CSV can get wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from voc_cls.data.dataset import Dataset, DifficultPolicy, Task
from voc_cls.data.load import default_splits, read_dataset, scan_split, splits_of
from voc_cls.data.readers.csv import folds_of
from voc_cls.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the pictures a.jpg to e.jpg in p/, and no list yet."""
    folder = tmp_path / "pets"
    (folder / "p").mkdir(parents=True)
    for name in "abcde":
        cv2.imwrite(str(folder / f"p/{name}.jpg"), np.full((8, 9, 3), 50, np.uint8))
    return folder


def read(root: Path, split: str = "train") -> Dataset:
    return read_dataset("csv", root, split, DifficultPolicy.IGNORE)


def names(dataset: Dataset) -> list[set[str]]:
    return [{dataset.classes[column] for column in np.flatnonzero(row)} for row in dataset.labels]


def test_the_lectures_header_is_one_class_a_picture(root: Path):
    (root / "train.csv").write_text("path,class\np/b.jpg,dog\np/a.jpg,cat\np/c.jpg,dog\n")
    dataset = read(root)
    assert dataset.task is Task.SINGLE_LABEL
    assert dataset.classes == ("cat", "dog")
    assert [path.name for path in dataset.paths] == ["b.jpg", "a.jpg", "c.jpg"]
    assert dataset.labels.tolist() == [[0, 1], [1, 0], [0, 1]]
    assert not dataset.ignored.any()
    assert dataset.name == "pets train"


def test_labels_are_any_number_of_classes_and_ignored_ones_count_neither_way(root: Path):
    (root / "train.csv").write_text("path,labels,ignored\np/a.jpg,car|person,\np/b.jpg,,bus\np/c.jpg, bus | car ,\n"
                                    "p/d.jpg,,\n")
    dataset = read(root)
    assert dataset.task is Task.MULTI_LABEL
    assert dataset.classes == ("bus", "car", "person")
    assert names(dataset) == [{"car", "person"}, set(), {"bus", "car"}, set()]
    assert dataset.targets.tolist() == [[0, 1, 1], [-1, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_columns_may_stand_in_any_order_beside_others_and_paths_may_be_absolute_or_lead_elsewhere(root: Path):
    (root / "lists").mkdir()
    (root / "lists/train.csv").write_text(f"id, class ,path,fold\n1,cat,{root}/p/a.jpg,x\n2,dog,../p/b.jpg,\n")
    assert [path.resolve().name for path in read(root / "lists").paths] == ["a.jpg", "b.jpg"]


def test_classes_and_their_order_are_the_same_for_all_splits(root: Path):
    (root / "train.csv").write_text("path,class\np/a.jpg,dog\n")
    (root / "test.csv").write_text("path,class\np/b.jpg,cat\n")
    (root / "street.csv").write_text("path,labels\np/b.jpg,bus\n")
    (root / "predictions.csv").write_text("path,score\np/b.jpg,0.5\n")
    assert read(root).classes == read(root, "test").classes == ("cat", "dog")
    assert read(root / "test.csv", "test").classes == ("cat", "dog")
    assert read(root, "street").classes == ("bus",)
    assert splits_of("csv", root) == ("street", "test", "train")
    (root / "classes.txt").write_text("zebra\ndog\ncat\n")
    assert read(root).classes == read(root, "test").classes == ("zebra", "dog", "cat")


def test_defaults_and_folds_are_those_that_exist(root: Path):
    for name in ("train_1", "val_1", "train_2", "val_2", "train_10", "val_10", "train_3"):
        (root / f"{name}.csv").write_text("path,class\np/a.jpg,dog\np/b.jpg,cat\n")
    assert splits_of("csv", root)[:4] == ("train_1", "train_2", "train_3", "train_10")
    assert folds_of(root) == (1, 2, 10)
    assert default_splits("csv", root) == ("train", "none")
    assert default_splits("csv", root / "val_1.csv") == ("val_1", "none")
    (root / "test.csv").write_text("path,class\np/a.jpg,dog\n")
    assert default_splits("csv", root) == ("train", "test")
    with pytest.raises(DataError, match=r"no split 'train'; the splits of .*/pets are: test, train_1, train_2"):
        read(root)
    with pytest.raises(DataError, match=r"no split 'train'; the splits of .*/test.csv are: test$"):
        read(root / "test.csv", "train")


@pytest.mark.parametrize("content", [
    b"\xef\xbb\xbfpath,class\np/a.jpg,dog\n", b"path,class\r\np/a.jpg,dog\r\n\r\n", b"path,class\rp/a.jpg,dog",
    b'"path","class"\n"p/a.jpg","dog"\n', b"path,class\n\n  \np/a.jpg, dog \n",
])
def test_the_ways_programs_write_a_csv_do_not_matter(root: Path, content: bytes):
    (root / "train.csv").write_bytes(content)
    assert splits_of("csv", root) == ("train",)
    dataset = read(root)
    assert (dataset.classes, [path.name for path in dataset.paths]) == (("dog",), ["a.jpg"])


def test_names_with_commas_quotes_and_other_scripts_are_read(root: Path):
    (root / "p/a.jpg").rename(root / 'p/ä,"ö".jpg')
    (root / "train.csv").write_text('path,class\n"p/ä,""ö"".jpg","Café, 猫"\n', encoding="utf-8")
    dataset = read(root)
    assert (dataset.classes, dataset.paths[0].name) == (("Café, 猫",), 'ä,"ö".jpg')


@pytest.mark.parametrize(("content", "found"), [
    ("path,label\np/a.jpg,dog\n", r":1: has the columns 'path', 'label' where 'path,class' or 'path,labels' is needed"),
    ("path,class,labels\n", r":1: has the columns .* where 'path,class' or"),
    ("path,path,class\n", r":1: .*; 'path' is allowed once"),
    ("path;class\np/a.jpg;dog\n", r":1: has the columns 'path;class' where .*: save it with commas"),
    ("", r":1: has no header; a list begins with 'path,class' or 'path,labels'"),
    ("p/a.jpg,dog\n", r":1: has the columns 'p/a.jpg', 'dog' where"),
    ("path,class\n", r":1: has a header and no pictures"),
    ("path,class\np/a.jpg,dog\np/b.jpg,\n", r":3: has an empty class"),
    ("path,class\n,dog\n", r":2: has an empty path"),
    ("path,class\np/a.jpg\n", r":2: has 1 field where the header has 2"),
    ("path,class\np/a,b.jpg,dog\n", r":2: has 3 fields where the header has 2; put a path with a comma between quotes"),
    ("path,class\np/x.jpg,dog\n", r":2: .*p/x.jpg: no such file"),
    ("path,class\np,dog\n", r":2: .*/p: is a folder where a file is expected"),
    ("path,class\ntrain.csv,dog\n", r":2: .*is not a JPEG, PNG, BMP or GIF"),
    ("path,class\np/a.jpg,dog\n\np/../p/a.jpg,cat\n", r":4: lists '.*' again with other classes than on line 2"),
    ("path,labels\np/a.jpg,dog|cat\np/a.jpg,dog\n", r":3: lists '.*' again with other classes than on line 2"),
    ("path,labels\np/a.jpg,dog||cat\n", r":2: has an empty class \(classes are separated by one '|'\)"),
    ("path,labels,ignored\np/a.jpg,dog,dog\n", r":2: says that 'dog' is shown and ignored"),
    ("path,labels\np/a.jpg,\n", r"no list has a class; label a picture, or list the classes in classes.txt"),
    ('path,class\np/a.jpg,"dog\n', r":2: is not a proper CSV \(unexpected end of data\)"),
    ('path,class\np/a.jpg,"d"og\n', r":2: is not a proper CSV"),
    ('path,class\np/a.jpg,"d\nog"\n', r":3: has the class 'd\\nog', .*control character"),
    ("path,class\np/a.jpg,do\0g\n", r":2: has the class .*control character"),
    (b"path,class\np/a.jpg,caf\xe9\n", r":2: holds the byte 0xe9, which is not UTF-8 text"),
    ("path,class\n".encode("utf-16"), r":1: holds the byte 0xff, which is not UTF-8 text; save the list as UTF-8"),
])
def test_a_wrong_list_is_one_sentence_with_its_line(root: Path, content: str | bytes, found: str):
    (root / "train.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=found) as error:
        read(root)
    assert str(error.value).startswith(str(root))
    assert "\n" not in str(error.value)


def test_a_class_that_is_not_in_the_list_of_classes_names_its_neighbours(root: Path):
    (root / "classes.txt").write_text("aeroplane\nbicycle\nbird\n")
    (root / "train.csv").write_text("path,class\np/a.jpg,bird\np/b.jpg,airplane\np/c.jpg,zebra\n")
    with pytest.raises(DataError, match=r"train.csv:3: unknown class 'airplane', it is not in .*classes.txt; did you "
                                        r"mean aeroplane\? \(and 1 more: `voc-data check` lists them all\)"):
        read(root)
    assert "known are aeroplane, bicycle, bird" in scan_split("csv", root, "train").problems[1]


@pytest.mark.parametrize(("content", "found"), [
    ("cat\n\ndog\ncat\n", r"classes.txt:4: lists 'cat' again, it is on line 1"),
    ("\n", r"classes.txt:1: is empty"),
    (b"cat\n\xff\n", r"classes.txt:2: holds the byte 0xff"),
])
def test_a_wrong_list_of_classes_is_named(root: Path, content: str | bytes, found: str):
    (root / "classes.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    (root / "train.csv").write_text("path,class\np/a.jpg,cat\n")
    with pytest.raises(DataError, match=found):
        read(root)


def test_all_problems_of_a_list_are_gathered_and_the_rest_is_read(root: Path):
    os.truncate(root / "p/c.jpg", 100)
    (root / "train.csv").write_text("path,class\np/a.jpg,dog\np/b.jpg,\np/c.jpg,dog\np/x.jpg,cat\np/d.jpg,cat\n")
    scan = scan_split("csv", root, "train")
    assert [path.name for path in scan.dataset.paths] == ["a.jpg", "d.jpg"]
    assert [problem.split(": ")[0].rpartition(":")[2] for problem in scan.problems] == ["3", "4", "5"]
    with pytest.raises(DataError, match="and 2 more"):
        scan.checked()


@pytest.mark.parametrize(("make", "found"), [
    (lambda _: None, "no such file or folder; `root` takes the folder of the lists"),
    (lambda path: path.write_text("path,class\n"), "is neither a folder nor named .csv"),
    (lambda path: path.mkdir(), "the splits of .* are: none"),
])
def test_a_wrong_root_is_one_sentence(tmp_path: Path, make: Callable[[Path], object], found: str):
    make(tmp_path / "root")
    with pytest.raises(DataError, match=found):
        read(tmp_path / "root")


def test_a_pipe_named_like_a_list_is_not_waited_for(root: Path):
    os.mkfifo(root / "train.csv")
    assert splits_of("csv", root) == ()
    with pytest.raises(DataError, match="no split 'train'"):
        read(root)


def test_the_same_picture_may_be_listed_twice_alike(root: Path):
    (root / "train.csv").write_text("path,class\np/a.jpg,dog\np/b.jpg,cat\np/a.jpg,dog\n")
    assert names(read(root)) == [{"dog"}, {"cat"}, {"dog"}]
