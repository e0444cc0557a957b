"""CSV lists of pictures: both headers, the list of the classes, and everything a CSV can get wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from voc_cls.data.dataset import Dataset, DifficultPolicy, Task
from voc_cls.data.load import default_splits, open_reader, read_dataset
from voc_cls.data.readers.csv import folds_of
from voc_cls.errors import DataError
from voc_cls.training.config import DatasetConfig


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
    assert open_reader("csv", root).splits == ("street", "test", "train")
    (root / "classes.txt").write_text("zebra\ndog\ncat\n")
    assert read(root).classes == read(root, "test").classes == ("zebra", "dog", "cat")


def test_defaults_and_folds_are_those_that_exist(root: Path):
    for name in ("train_1", "val_1", "train_2", "val_2", "train_10", "val_10", "train_3"):
        (root / f"{name}.csv").write_text("path,class\np/a.jpg,dog\np/b.jpg,cat\n")
    assert open_reader("csv", root).splits[:4] == ("train_1", "train_2", "train_3", "train_10")
    assert folds_of(root) == (1, 2, 10)
    assert default_splits("csv", root) == ("train", "none")
    assert default_splits("csv", root / "val_1.csv") == ("val_1", "none")
    (root / "test.csv").write_text("path,class\np/a.jpg,dog\n")
    assert default_splits("csv", root) == ("train", "test")
    with pytest.raises(DataError, match=r"no split 'train'; the splits are: test, train_1, train_2"):
        read(root)
    with pytest.raises(DataError, match=r"no split 'train'; the splits are: test$"):
        read(root / "test.csv", "train")


@pytest.mark.parametrize("content", [
    b"\xef\xbb\xbfpath,class\np/a.jpg,dog\n", b"path,class\r\np/a.jpg,dog\r\n\r\n", b"path,class\rp/a.jpg,dog",
    b'"path","class"\n"p/a.jpg","dog"\n', b"path,class\n\n  \np/a.jpg, dog \n", b"path;class\r\np/a.jpg;dog\r\n",
    b"path\tclass\np/a.jpg\tdog\n", b"path, class\n p/a.jpg, \"dog\"\n", b"Image ID;Label\np/a.jpg;dog\n",
    b",id,filename,Category\n0,7,p/a,dog\n", b"p/a.jpg,dog\n", b"path,class\np\\a.jpg,dog\n",
    "path\tclass\np/a.jpg\tdog\n".encode("utf-16"),
])
def test_the_ways_programs_write_a_csv_do_not_matter(root: Path, content: bytes):
    (root / "train.csv").write_bytes(content)
    assert open_reader("csv", root).splits == ("train",)
    dataset = read(root)
    assert (dataset.classes, [path.name for path in dataset.paths]) == (("dog",), ["a.jpg"])


def test_names_with_commas_quotes_and_other_scripts_are_read(root: Path):
    (root / "p/a.jpg").rename(root / 'p/ä,"ö".jpg')
    (root / "train.csv").write_text('path,class\n"p/ä,""ö"".jpg","Café, 猫"\n', encoding="utf-8")
    dataset = read(root)
    assert (dataset.classes, dataset.paths[0].name) == (("Café, 猫",), 'ä,"ö".jpg')


@pytest.mark.parametrize(("content", "found"), [
    ("path,colour\np/a.jpg,dog\n", r":1: has the columns 'path', 'colour' where 'path,class', 'path,labels' or 'path' "
                                  r"and a column of 0 and 1 for each class is needed: 'colour' has 'dog' on line 2"),
    ("path,class,labels\n", r":1: has the columns .* where 'path,class', .*: 'class' and 'labels' could both be"),
    ("image,label,class_name\n", r"'label' and 'classname' could both be the classes"),
    ("url,class\n", r":1: has the columns 'url', 'class' where .*: none is named like the path of a picture"),
    ("File Name,file_name,class\n", r":1: .*; 'File Name' is allowed once"),
    ("image,cat,cat\n", r":1: .*; 'cat' is allowed once"),
    ("image,cat,dog\np/a.jpg,1,0\np/b.jpg,1,2\n", r":3: has '2' in the column 'dog', where 0 or 1 is expected"),
    ("image\np/a.jpg\n", r":1: has the columns 'image' where .*: none has the classes"),
    ("path,path,class\n", r":1: .*; 'path' is allowed once"),
    ("", r":1: has no header; a list begins with 'path,class', 'path,labels' or"),
    ("p/a.jpg,dog,1\n", r":1: has the columns 'p/a.jpg', 'dog', '1' where"),
    ("path,class\n", r":1: has a header and no pictures"),
    ("path,class\np/a.jpg,dog\np/b.jpg,\n", r":3: has an empty class"),
    ("path,class\n,dog\n", r":2: has an empty path"),
    ("path,class\np/a.jpg\n", r":2: has 1 field where the header has 2"),
    ("path,class\np/a,b.jpg,dog\n", r":2: has 3 fields where the header has 2; put a field with a comma between"),
    ("path,class\np/x.jpg,dog\n", r":2: .*p/x.jpg: no such file"),
    ("path,class\np,dog\n", r":2: .*/p: is a folder where a file is expected"),
    ("path,class\ntrain.csv,dog\n", r":2: .*is not a JPEG, PNG, BMP, GIF, WebP or TIFF"),
    ("path,class\np/a.jpg,dog\n\np/../p/a.jpg,cat\n", r":4: .*a.jpg: is the same file as .*csv:2: .*, which has"),
    ("path,labels\np/a.jpg,dog|cat\np/a.jpg,dog\n", r":3: .*a.jpg: is the same file as .*csv:2: .*, which has"),
    ("path,labels\np/a.jpg,dog||cat\n", r":2: has an empty class \(classes are separated by bars\)"),
    ("path,labels,ignored\np/a.jpg,dog,dog\n", r":2: says that 'dog' is shown and ignored"),
    ("path,labels\np/a.jpg,\n", r"no list has a class; label a picture, or list the classes in classes.txt"),
    ('path,class\np/a.jpg,"dog\n', r":2: is not a proper CSV \(unexpected end of data\)"),
    ('path,class\np/a.jpg,"d"og\n', r":2: is not a proper CSV"),
    ('path,class\np/a.jpg,"d\nog"\n', r":3: has the class 'd\\nog', .*control character"),
    ("path,class\np/a.jpg,do\0g\n", r":2: has the class .*control character"),
    (b"path,class\np/a.jpg,caf\xe9\n", r":2: holds the byte 0xe9, which is not UTF-8 text"),
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
    assert "known are aeroplane, bicycle, bird" in open_reader("csv", root).scan("train").problems[1]


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
    scan = open_reader("csv", root).scan("train")
    assert [path.name for path in scan.dataset.paths] == ["a.jpg", "d.jpg"]
    assert [problem.split(": ")[0].rpartition(":")[2] for problem in scan.problems] == ["3", "4", "5"]
    with pytest.raises(DataError, match="and 2 more"):
        scan.checked()


@pytest.mark.parametrize(("make", "found"), [
    (lambda _: None, "no such file or folder; `root` takes the folder of the lists"),
    (lambda path: path.write_text("path,class\n"), "is neither a folder nor named .csv"),
    (lambda path: path.mkdir(), "root: has no file named .csv or .tsv; `root` takes the folder of the lists"),
])
def test_a_wrong_root_is_one_sentence(tmp_path: Path, make: Callable[[Path], object], found: str):
    make(tmp_path / "root")
    with pytest.raises(DataError, match=found):
        read(tmp_path / "root")


def test_a_pipe_named_like_a_list_is_not_waited_for(root: Path):
    os.mkfifo(root / "train.csv")
    with pytest.raises(DataError, match=r"train.csv: is a device, pipe or socket"):
        read(root)


def test_the_same_picture_may_be_listed_twice_alike(root: Path):
    (root / "train.csv").write_text("path,class\np/a.jpg,dog\np/b.jpg,cat\np/a.jpg,dog\n")
    assert names(read(root)) == [{"dog"}, {"cat"}, {"dog"}]


def test_a_column_of_0_and_1_for_each_class_is_any_number_of_classes(root: Path):
    (root / "train.csv").write_text("image_id,Cat,Dog\na,1,0\nb,0.0,1.0\nc,True,true\nd,0,0\n")
    root.joinpath("images").mkdir()
    for path in root.glob("p/*.jpg"):
        path.rename(root / "images" / path.name)
    dataset = read(root)
    assert (dataset.task, dataset.classes) == (Task.MULTI_LABEL, ("Cat", "Dog"))
    assert names(dataset) == [{"Cat"}, {"Dog"}, {"Cat", "Dog"}, set()]
    assert dataset.warnings == (f"{root}: pictures are taken from {root}/images",)


def test_other_columns_beside_those_of_0_and_1_need_the_list_of_classes(root: Path):
    (root / "train.csv").write_text("path,width,cat,dog\np/a.jpg,320,1,0\np/b.jpg,200,1,1\n")
    with pytest.raises(DataError, match=r":1: .*: 'width' has '320' on line 2, not 0 or 1"):
        read(root)
    (root / "classes.txt").write_text("dog\ncat\n")
    assert names(read(root)) == [{"cat"}, {"cat", "dog"}]


@pytest.mark.parametrize(("separator", "name"), [
    (",", "commas"), (";", "semicolons"), (", ", "commas"), (" ", "blanks"),
])
def test_other_separators_are_recognised_where_classes_occur_elsewhere_too(root: Path, separator: str, name: str):
    (root / "train.csv").write_text(f'image,tags\np/a.jpg,"cat{separator}dog"\np/b.jpg,dog\n'
                                    f'p/c.jpg,"cat{separator}elk"\np/d.jpg,elk\np/e.jpg,\n')
    dataset = read(root)
    assert dataset.classes == ("cat", "dog", "elk")
    assert names(dataset) == [{"cat", "dog"}, {"dog"}, {"cat", "elk"}, {"elk"}, set()]
    (warning,) = dataset.warnings
    assert warning == (f"{root}/train.csv:2: 'cat{separator}dog' is read as 2 classes, separated by {name}, and so are "
                       "the others")


def test_a_class_that_is_always_beside_another_is_taken_with_commas_but_not_with_blanks(root: Path):
    (root / "train.csv").write_text('path,labels\np/a.jpg,"cat,dog"\np/b.jpg,dog\n')
    assert names(read(root)) == [{"cat", "dog"}, {"dog"}]
    (root / "train.csv").write_text("path,labels\np/a.jpg,traffic light\np/b.jpg,light\n")
    with pytest.raises(DataError, match="'traffic light', which may be one class or several"):
        read(root)


@pytest.mark.parametrize("cells", [("Fat Hen", "Maize", "Common wheat"), ("tench, Tinca tinca", "goldfish"),
                                   ("['cat', 'dog']", "['cat', 'elk']", "['dog', 'elk']")])
def test_a_cell_that_may_be_one_class_or_several_is_refused_unless_the_classes_are_listed(root: Path,
                                                                                        cells: tuple[str, ...]):
    rows = [f'p/{name}.jpg,"{cell}"' for name, cell in zip("abc", cells, strict=False)]
    (root / "train.csv").write_text("\n".join(["path,labels", *rows]))
    with pytest.raises(DataError, match=r"train.csv:\d: has the classes .*, which may be one class or several .*; "
                                        r"separate the classes by '\|', or list them in classes.txt"):
        read(root)
    (root / "classes.txt").write_text("\n".join(cells))
    assert names(read(root)) == [{cell} for cell in cells]


def test_the_list_of_classes_decides_what_separates_them(root: Path):
    (root / "classes.txt").write_text("fat hen\nmaize\nelk\n")
    (root / "train.csv").write_text('path,labels\np/a.jpg,"fat hen,maize"\np/b.jpg,fat hen\np/c.jpg,"elk,moose"\n')
    scan = open_reader("csv", root).scan("train")
    assert names(scan.dataset) == [{"fat hen", "maize"}, {"fat hen"}]
    assert "unknown class 'moose'" in scan.problems[0]


def test_several_classes_in_a_column_of_one_are_refused_or_told(root: Path):
    (root / "train.csv").write_text('path,class\np/a.jpg,"cat,dog"\np/b.jpg,dog\np/c.jpg,cat\n')
    with pytest.raises(DataError, match=r"train.csv:2: has the class 'cat,dog', whose parts are classes or numbers"):
        read(root)
    (root / "train.csv").write_text("path,labels\np/a.jpg,cat+dog\np/b.jpg,dog\np/c.jpg,cat\n")
    with pytest.raises(DataError, match=r"train.csv:2: has the class 'cat\+dog', whose parts are classes or numbers"):
        read(root)
    (root / "train.csv").write_text('path,label\np/a.jpg,cat|dog\np/b.jpg,dog\n')
    assert read(root).warnings == (f"{root}/train.csv:2: 'cat|dog' is read as one class; name the column 'labels' if "
                                   "it is several",)


def test_numbers_in_a_column_of_one_class_are_several_classes(root: Path):
    (root / "train.csv").write_text("path,target\np/a.jpg,5 0\np/b.jpg,1 0\np/c.jpg,0\n")
    with pytest.raises(DataError, match=r"train.csv:3: has the class '1 0', whose parts are classes or numbers"):
        read(root)


def test_minus_one_is_no_where_there_is_no_zero_and_columns_of_splits_are_no_classes(root: Path):
    (root / "train.csv").write_text("path,cat,dog,partition\np/a.jpg,-1,1,0\np/b.jpg,1,-1,2\n")
    assert names(read(root)) == [{"dog"}, {"cat"}]
    (root / "train.csv").write_text("path,cat,dog\np/a.jpg,-1,1\np/b.jpg,1,0\n")
    with pytest.raises(DataError, match=r"train.csv:1: has -1 beside 0 in its columns of classes, so -1 may mean no"):
        read(root)


def test_a_path_with_a_nul_is_a_problem(root: Path):
    (root / "train.csv").write_text("path,class\np/a.jpg,cat\np/b\0.jpg,dog\n")
    with pytest.raises(DataError, match=r"train.csv:3: 'p/b.x00.jpg' is no path; it holds a NUL"):
        read(root)


def test_a_class_that_pandas_did_not_know_is_empty(root: Path):
    (root / "train.csv").write_text("path,class\np/a.jpg,NaN\np/b.jpg,dog\n")
    with pytest.raises(DataError, match=r"train.csv:2: has an empty class \(NaN\)"):
        read(root)


def test_images_are_found_by_composed_names_and_in_the_only_folder_beside_the_list(root: Path):
    (root / "p").rename(root / "Input")
    (root / "Input/a.jpg").rename(root / "Input/Ka\u0308fer.jpg")
    (root / "labels.csv").write_text("id,breed\nK\u00e4fer,cat\nb,dog\n")
    dataset = read(root, "labels")
    assert [path.name for path in dataset.paths] == ["Ka\u0308fer.jpg", "b.jpg"]
    assert dataset.warnings == (f"{root}: pictures are taken from {root}/Input",)


def test_ids_are_looked_up_in_the_folder_named_like_the_split_and_two_candidates_are_refused(root: Path):
    for split in ("train", "test"):
        (root / f"{split}_images").mkdir()
        for name in "ab":
            (root / f"{split}_images/{name}.JPEG").write_bytes((root / f"p/{name}.jpg").read_bytes())
        (root / f"{split}.csv").write_text("id,label\na,cat\nb,dog\n")
    assert [path.relative_to(root).parts[0] for path in read(root, "test").paths] == ["test_images"] * 2
    (root / "train_images/a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"train.csv:2: 'a' could be a.png or a.JPEG in .*train_images; write its ext"):
        read(root)


def test_paths_may_be_relative_to_a_folder_above_the_lists(root: Path):
    (root / "data_list/cat_dog").mkdir(parents=True)
    (root / "data_list/cat_dog/train.csv").write_text("path,class\np/a.jpg,cat\np/b.jpg,dog\n")
    dataset = read(root / "data_list/cat_dog")
    assert [path.relative_to(root).as_posix() for path in dataset.paths] == ["p/a.jpg", "p/b.jpg"]
    assert dataset.warnings == (f"{root}/data_list/cat_dog: pictures are taken from {root}",)


def write_per_class(root: Path, ending: str, splits: str = "train val test") -> None:
    """As the lecture has it: 0 is cat, 1 is dog; a and b are cats."""
    for split, cats, dogs in zip(splits.split(), "abc", "cde", strict=False):
        (root / f"{split}_cat{ending}.csv").write_text(f"path,class\np/{cats}.jpg,0\n")
        (root / f"{split}_dog{ending}.csv").write_text(f"path,class\np/{dogs}.jpg,1\n")


def test_a_list_for_each_class_and_fold_is_joined_and_names_the_classes(root: Path):
    for fold in range(2):
        write_per_class(root, f"_{fold}")
    assert open_reader("csv", root).splits == ("test_0", "test_1", "train_0", "train_1", "val_0", "val_1")
    assert folds_of(root) == (0, 1)
    dataset = read(root, "train_0")
    assert dataset.classes == ("cat", "dog")
    assert [(path.name, row.argmax()) for path, row in zip(dataset.paths, dataset.labels, strict=True)] == [
        ("a.jpg", 0), ("c.jpg", 1)]
    config = DatasetConfig((root,), "csv", fold=0).checked()
    assert (config.train_split, config.val_split, config.eval_split) == ("train_0", "val_0", "test_0")


def test_a_list_for_each_class_without_folds_is_joined_and_a_stray_line_is_named(root: Path):
    write_per_class(root, "")
    assert default_splits("csv", root) == ("train", "test")
    with (root / "train_dog.csv").open("a") as file:
        file.write("p/d.jpg,1\np/e.jpg,0\n")
    with pytest.raises(DataError, match=r"train_dog.csv:4: has the class '0' where the others of 'dog' have '1'"):
        read(root)


def test_lists_of_mixed_classes_are_splits_of_their_own(root: Path):
    for name in ("small", "large"):
        (root / f"train_{name}.csv").write_text("path,class\np/a.jpg,cat\np/b.jpg,dog\np/c.jpg,cat\n")
    assert open_reader("csv", root).splits == ("train_large", "train_small")


def test_a_wrong_header_is_named_for_the_folder_too_and_test_images_without_classes_are_left_out(root: Path):
    (root / "train.csv").write_text("name,breed\na,dog\n")
    assert open_reader("csv", root).splits == ("train",)
    with pytest.raises(DataError, match=r"train.csv:1: has the columns 'name', 'breed' where"):
        read(root)
    (root / "train.csv").write_text("id,class\np/a,dog\np/b,cat\n")
    (root / "test.csv").write_text("id\np/c\n")
    (root / "sample_submission.csv").write_text("id,class\np/c,dog\n")
    assert open_reader("csv", root).splits == ("test", "train")
    assert open_reader("csv", root).labelled_splits == ("train",)
    assert default_splits("csv", root) == ("train", "none")
    (root / "train.csv").rename(root / "list.csv")
    (root / "test.csv").unlink()
    (root / "list.csv").write_text("name,breed\na,dog\n")
    with pytest.raises(DataError, match=r"list.csv:1: has the columns 'name', 'breed' where"):
        _ = open_reader("csv", root).splits


def test_the_list_in_the_folder_of_a_split_is_read_as_roboflow_writes_it(root: Path):
    for split in ("train", "valid"):
        (root / split).mkdir()
        (root / split / "a_jpg.rf.01.jpg").write_bytes((root / "p/a.jpg").read_bytes())
        (root / split / "_classes.csv").write_text("filename, cat, dog\na_jpg.rf.01.jpg, 1, 1\n")
    assert open_reader("csv", root).splits == ("train", "valid")
    assert names(read(root, "valid")) == [{"cat", "dog"}]
