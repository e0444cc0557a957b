"""Devkits: the labels of a split, VOC's own counts, and what is said about devkits that are wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from voc_cls.data.dataset import DifficultPolicy
from voc_cls.data.load import read_dataset
from voc_cls.data.readers.split_scan import Box, VocObject
from voc_cls.data.readers.voc import CLASSES, apply_policy, ground_truth
from voc_cls.data.readers.voc_folders import open_devkits
from voc_cls.errors import DataError

AllObjects = Callable[[str], list[list[VocObject]]]

# Published at host.robots.ox.ac.uk/pascal/VOC/voc2007/dbstats.html and in the devkits' documentation, table 1:
# pictures with at least one object that is not difficult, and such objects.
PUBLISHED = {
    "voc2007_trainval": (
        5011,
        (238, 243, 330, 181, 244, 186, 713, 337, 445, 141, 200, 421, 287, 245, 2008, 245, 96, 229, 261, 256),
        (306, 353, 486, 290, 505, 229, 1250, 376, 798, 259, 215, 510, 362, 339, 4690, 514, 257, 248, 297, 324),
    ),
    "voc2007_test": (
        4952,
        (204, 239, 282, 172, 212, 174, 721, 322, 417, 127, 190, 418, 274, 222, 2007, 224, 97, 223, 259, 229),
        (285, 337, 459, 263, 469, 213, 1201, 358, 756, 244, 206, 489, 348, 325, 4528, 480, 242, 239, 282, 308),
    ),
    "voc2012_trainval": (
        11540,
        (670, 552, 765, 508, 706, 421, 1161, 1080, 1119, 303, 538, 1286, 482, 526, 4087, 527, 325, 507, 544, 575),
        (865, 711, 1119, 850, 1259, 593, 2017, 1217, 2354, 588, 609, 1515, 710, 713, 8566, 973, 813, 566, 628, 784),
    ),
}


def seen(*names: str, difficult: bool = False) -> list[VocObject]:
    """Objects of these classes."""
    return [VocObject(name, Box(1, 1, 9, 9), difficult) for name in names]


def complaint(root: Path, split: str = "trainval") -> str:
    """What reading the split is refused with, without the devkit's folder."""
    with pytest.raises(DataError) as caught:
        read_dataset("voc", root, split)
    return str(caught.value).replace(f"{root}/", "")


def rewrite(path: Path, old: str, new: str) -> None:
    """Replaces the first `old` of a file."""
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


def test_the_classes_are_the_twenty_of_voc_in_alphabetical_order() -> None:
    assert len(CLASSES) == 20
    assert list(CLASSES) == sorted(CLASSES)


def test_one_easy_dog_among_difficult_ones_makes_the_picture_positive() -> None:
    truth = ground_truth([*seen("dog", "cat", difficult=True), *seen("dog", "car"), *seen("dog", difficult=True)])
    assert {name: value for name, value in zip(CLASSES, truth.tolist(), strict=True) if value != -1} == {
        "dog": 1, "car": 1, "cat": 0}
    assert ground_truth([]).tolist() == [-1] * 20


@pytest.mark.parametrize(("policy", "label", "ignored"), [
    (DifficultPolicy.IGNORE, 0, True), (DifficultPolicy.POSITIVE, 1, False), (DifficultPolicy.NEGATIVE, 0, False)])
def test_the_policy_decides_about_pictures_with_only_difficult_objects(
        policy: DifficultPolicy, label: float, ignored: bool) -> None:
    labels, ignore = apply_policy(np.array([1, 0, -1], np.int8), policy)
    assert labels.tolist() == [1, label, 0]
    assert ignore.tolist() == [False, ignored, False]
    assert (labels.dtype, ignore.dtype) == (np.dtype(np.float32), np.dtype(bool))


@pytest.mark.parametrize("split", PUBLISHED)
def test_pictures_and_objects_per_class_are_those_that_voc_published(all_objects: AllObjects, split: str) -> None:
    pictures, positives, objects = PUBLISHED[split]
    annotated = all_objects(split)
    labels, ignored = apply_policy(np.stack([ground_truth(found) for found in annotated]), DifficultPolicy.IGNORE)
    assert len(annotated) == pictures
    assert labels.sum(axis=0).astype(int).tolist() == list(positives)
    easy = [item.name for found in annotated for item in found if not item.difficult]
    assert [easy.count(name) for name in CLASSES] == list(objects)
    assert not (ignored & (labels == 1)).any()


def test_a_split_becomes_a_data_set_in_the_order_of_its_list(devkit: Path) -> None:
    (devkit / "ImageSets/Main/mine.txt").write_text("000009\r\n\r\n000004 \r\n")
    dataset = read_dataset("voc", devkit, "mine")
    assert dataset.name == "VOC2007 mine"
    assert dataset.classes == CLASSES
    assert [path.name for path in dataset.paths] == ["000009.jpg", "000004.jpg"]
    assert (dataset.labels.shape, dataset.labels.dtype) == ((2, 20), np.dtype(np.float32))
    assert (dataset.ignored.shape, dataset.ignored.dtype) == ((2, 20), np.dtype(bool))
    xml = (devkit / "Annotations/000004.xml").read_text()
    assert all(f"<name>{CLASSES[index]}</name>" in xml for index in np.flatnonzero(dataset.labels[1]))


def test_the_real_pictures_read_cleanly_and_fast(real_devkit: Path) -> None:
    started = time.process_time()
    splits = {split: read_dataset("voc", real_devkit, split) for split in ("trainval", "test")}
    assert time.process_time() - started < 5  # 0.3 s where nothing else runs
    assert {name: len(dataset) for name, dataset in splits.items()} == {"trainval": 996, "test": 506}
    test = splits["test"]
    positives = dict(zip(CLASSES, test.labels.sum(axis=0).astype(int).tolist(), strict=True))
    assert {name: positives[name] for name in ("bus", "car", "cat", "person", "train")} == {
        "bus": 58, "car": 250, "cat": 112, "person": 119, "train": 89}


def test_a_folder_near_a_devkit_is_told_where_it_is(devkit: Path, tmp_path: Path) -> None:
    for wrong, lacks in ((tmp_path, "ImageSets"), (devkit / "JPEGImages", "annotations (.xml)"),
                         (devkit / "Annotations", "pictures"),
                         (devkit / "ImageSets" / "Main", "annotations (.xml) and no pictures")):
        with pytest.raises(DataError) as caught:
            open_devkits(wrong)
        assert str(caught.value).startswith(f"{wrong}: is not a VOC devkit, it has no {lacks} (found: ")
        assert str(caught.value).endswith(f"; pass `root` {devkit}")


def test_what_is_no_devkit_at_all_is_told_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    for wrong, said in ((tmp_path, "(found: holiday.jpg); `root` takes"), (tmp_path / "no", "no such folder; `root`"),
                        (tmp_path / "holiday.jpg", "is a file; `root` takes the folder of one year")):
        with pytest.raises(DataError) as caught:
            open_devkits(wrong)
        assert said in str(caught.value)


@pytest.mark.parametrize(("split", "said"), [
    ("validation", "validation.txt: no such split; the splits of VOC2007 are: test, train, trainval, val"),
    ("car_test", "car_test.txt: is for the list of a class, not a split; the splits of VOC2007"),
    ("train_train", "train_train.txt: is for the list of a class, not a split; the splits of VOC2007"),
    ("../Main/test", "../Main/test.txt: no such split; the splits of VOC2007 are"),
])
def test_a_split_that_is_none_is_told_those_that_are(devkit: Path, split: str, said: str) -> None:
    assert complaint(devkit, split).startswith(f"ImageSets/Main/{said}")


def test_a_picture_without_annotation_is_named_with_the_line_of_the_list(devkit: Path) -> None:
    (devkit / "Annotations/000002.xml").unlink()
    assert complaint(devkit).startswith(
        "ImageSets/Main/trainval.txt:2: lists '000002', but Annotations/000002.xml does not exist; add what is missing")


def test_an_annotation_without_picture_is_named(devkit: Path) -> None:
    (devkit / "JPEGImages/000002.jpg").unlink()
    assert complaint(devkit).startswith(
        "ImageSets/Main/trainval.txt:2: lists '000002', but JPEGImages/000002.jpg does not exist; add what is missing")


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif"])
def test_a_picture_is_found_whatever_its_extension(devkit: Path, suffix: str) -> None:
    picture = devkit / "JPEGImages/000002.jpg"
    picture.rename(picture.with_suffix(suffix))
    assert read_dataset("voc", devkit, "trainval").paths[1] == picture.with_suffix(suffix)


def test_a_listed_id_with_neither_is_named(devkit: Path) -> None:
    (devkit / "ImageSets/Main/mine.txt").write_text("000001\n999999\n")
    assert complaint(devkit, "mine").startswith(
        "ImageSets/Main/mine.txt:2: lists '999999', but Annotations/999999.xml and JPEGImages/999999.jpg do not exist;")


def test_an_id_longer_than_any_file_name_is_named(devkit: Path) -> None:
    (devkit / "ImageSets/Main/mine.txt").write_text("9" * 5000)
    assert complaint(devkit, "mine").startswith("ImageSets/Main/mine.txt:1: lists '999")


def test_a_picture_of_another_size_than_annotated_is_named_with_the_line_of_the_size(devkit: Path) -> None:
    rewrite(devkit / "Annotations/000001.xml", "<width>", "<width>1")
    said = complaint(devkit)
    assert said.startswith("Annotations/000001.xml:8: says 1")
    assert "but JPEGImages/000001.jpg has" in said


def test_a_truncated_picture_is_named(devkit: Path) -> None:
    picture = devkit / "JPEGImages/000001.jpg"
    picture.write_bytes(picture.read_bytes()[:-500])
    assert complaint(devkit).startswith("JPEGImages/000001.jpg: is a truncated JPEG of ")


def test_labels_that_contradict_the_class_list_are_named(devkit: Path) -> None:
    path = devkit / "ImageSets/Main/sheep_trainval.txt"
    lines = path.read_text().splitlines()
    assert lines[0] == "000001 -1"
    path.write_text("\n".join(["000001  1", *lines[1:]]))
    assert complaint(devkit).startswith(
        "ImageSets/Main/sheep_trainval.txt:1: says 1 for '000001', its annotation says -1 (1: shown, 0:")


def test_an_object_added_to_an_annotation_contradicts_the_class_list(devkit: Path) -> None:
    rewrite(devkit / "Annotations/000001.xml", "<object>", """<object><name>sheep</name><difficult>1</difficult>
        <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object><object>""")
    assert "sheep_trainval.txt:1: says -1 for '000001', its annotation says 0" in complaint(devkit)


def test_the_first_of_several_problems_says_how_many_more_there_are(devkit: Path) -> None:
    for name in ("000001", "000002", "000004"):
        (devkit / f"JPEGImages/{name}.jpg").write_bytes(b"")
    assert complaint(devkit) == ("JPEGImages/000001.jpg: is empty; a picture is expected "
                                 "(and 2 more: `voc-data check` lists them all)")
