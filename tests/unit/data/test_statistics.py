"""The numbers of `voc-data stats`, its tables and its figure."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from voc_cls.data.dataset import Task
from voc_cls.data.load import read_dataset, scan_dataset
from voc_cls.data.readers.voc import CLASSES
from voc_cls.data.readers.voc_annotation import read_annotation
from voc_cls.data.statistics import Range, Statistics, draw_statistics, statistics, table
from voc_cls.errors import DataError

pytestmark = pytest.mark.slow  # takes seconds; `make test-fast` leaves it out


def printed(splits: tuple[Statistics, ...]) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(table(splits))
    return out.getvalue()


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """Lists with several classes a picture, in two splits; pictures of three sizes and two formats."""
    for name, size, form in (("a", (40, 20), "JPEG"), ("b", (30, 30), "PNG"), ("c", (20, 40), "JPEG"),
                             ("d", (40, 20), "JPEG")):
        Image.new("RGB", size, (ord(name), 0, 0)).save(tmp_path / f"{name}.jpg", form)
    (tmp_path / "train.csv").write_text("path,labels,ignored\na.jpg,bus|car|person,\nb.jpg,car|person,bus\nc.jpg,,\n")
    (tmp_path / "test.csv").write_text("path,labels\nd.jpg,bus\n")
    return tmp_path


def test_the_counts_are_those_of_the_annotations(drawn_devkit: Path):
    counted = statistics(scan_dataset("voc", drawn_devkit, "trainval"))[0]
    dataset = read_dataset("voc", drawn_devkit, "trainval")
    files = [drawn_devkit / "Annotations" / f"{path.stem}.xml" for path in dataset.paths]
    annotations = [read_annotation(file, CLASSES) for file in files]
    objects = [item for annotation in annotations for item in annotation.objects]
    assert counted.pictures == 20
    assert [row.positive for row in counted.classes] == dataset.labels.sum(axis=0).tolist()
    assert [row.only_difficult for row in counted.classes] == dataset.ignored.sum(axis=0).tolist()
    assert sum(row.objects for row in counted.classes) == len(objects)
    assert sum(row.difficult_objects for row in counted.classes) == sum(item.difficult for item in objects)
    assert sum(row.truncated_objects for row in counted.classes) == sum(item.truncated for item in objects)
    widths = [annotation.size[0] for annotation in annotations if annotation.size]
    assert counted.width == Range(min(widths), round(float(np.median(widths))), max(widths))
    assert counted.formats == {"JPEG": 20}


def test_classes_that_come_together_are_counted_in_pairs(streets: Path):
    test, train = statistics(scan_dataset("csv", streets))
    assert (train.task, train.pictures, train.without_objects, train.has_objects) == (Task.MULTI_LABEL, 3, 1, False)
    assert [(row.name, row.positive, row.only_difficult) for row in train.classes] == [("bus", 1, 1), ("car", 2, 0),
                                                                                       ("person", 2, 0)]
    assert train.co_occurrence.tolist() == [[1, 1, 1], [1, 2, 2], [1, 2, 2]]
    assert train.together(2) == [("car", "person", 2), ("bus", "car", 1)]
    assert test.together(5) == []
    assert (train.width, train.aspect) == (Range(20, 30, 40), Range(0.5, 1.0, 2.0))
    assert train.classes_per_picture == Range(0, 2, 3)
    assert train.formats == {"JPEG": 2, "PNG": 1}


def test_the_json_form_has_the_matrix_of_a_multi_label_set_alone(streets: Path):
    train = statistics(scan_dataset("csv", streets, "train"))[0]
    assert train.to_dict()["co_occurrence"] == train.co_occurrence.tolist()
    assert "co_occurrence" not in replace(train, task=Task.SINGLE_LABEL).to_dict()
    assert {"sizes", "has_objects"}.isdisjoint(train.to_dict())


def test_the_tables_fit_into_80_columns_and_show_what_there_is(streets: Path, drawn_devkit: Path):
    for splits in (statistics(scan_dataset("csv", streets)), statistics(scan_dataset("voc", drawn_devkit)),
                   statistics(scan_dataset("voc", drawn_devkit, "test")),
                   statistics(scan_dataset("csv", streets)) * 5):  # as many as five folds have
        assert max(map(len, printed(splits).splitlines())) <= 80
    side_by_side = printed(statistics(scan_dataset("csv", streets)))
    assert "│ person   │    0 │     2 │" in side_by_side
    assert "most often together in train: car + person 2, bus + car 1, bus + person 1" in side_by_side
    one = printed(statistics(scan_dataset("csv", streets, "train")))
    assert "│ bus    │        1 │       1 │" in one
    assert "pictures of no class: 1" in one
    assert "only difficult" in printed(statistics(scan_dataset("voc", drawn_devkit, "test")))


@pytest.mark.parametrize("kind", ["multi-label", "single-label", "one size", "many classes"])
def test_the_figure_is_a_png_of_everything(streets: Path, kind: str):
    splits = statistics(scan_dataset("csv", streets))
    if kind == "single-label":
        splits = tuple(replace(split, task=Task.SINGLE_LABEL) for split in splits)
    if kind == "one size":
        splits = tuple(replace(split, sizes=np.full((4, 2), 32)) for split in splits)
    if kind == "many classes":
        splits = tuple(replace(split, classes=split.classes * 30, co_occurrence=np.tile(split.co_occurrence, (30, 30)))
                       for split in splits)
    draw_statistics(streets / "stats.png", splits)
    with Image.open(streets / "stats.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 500
        colours = {tuple(colour) for colour in np.asarray(image.convert("RGB")).reshape(-1, 3)[::7].tolist()}
    assert {(0x2F, 0x6F, 0x9F), (0xE0, 0x91, 0x3A)} <= colours  # both splits' bars
    assert not list(streets.glob(".aside*"))


def test_a_figure_that_cannot_be_written_is_one_sentence(streets: Path):
    with pytest.raises(DataError, match=r"nowhere/stats\.png: cannot be written \(No such file"):
        draw_statistics(streets / "nowhere/stats.png", statistics(scan_dataset("csv", streets)))


def test_a_devkit_that_cannot_be_read_is_not_counted(devkit: Path):
    (devkit / "JPEGImages/000003.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"000003\.jpg: is not a JPEG"):
        statistics(scan_dataset("voc", devkit, "test"))
