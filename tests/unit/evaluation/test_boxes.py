"""Boxes of VOC's and COCO's annotations, in the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voc_cls.data.dataset import Dataset
from voc_cls.data.load import read_dataset
from voc_cls.evaluation.objects import read_boxes


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Two pictures of 40 × 30, the second of which EXIF turns; a box of the left half, and one that is too large."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, options in {"a": {}, "b": {"exif": exif}}.items():
        Image.new("RGB", (40, 30)).save(tmp_path / f"{name}.jpg", **options)
        objects = "".join(
            f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox><xmin>{left}</xmin><ymin>1</ymin>"
            f"<xmax>{right}</xmax><ymax>30</ymax></bndbox></object>"
            for label, left, right, difficult in (("dog", 1, 20, 0), ("cat", 11, 41, 1)))
        (tmp_path / f"{name}.xml").write_text(f"<annotation><filename>{name}.jpg</filename><size><width>40</width>"
                                              f"<height>30</height></size>{objects}</annotation>")
    return tmp_path


def boxes_of(dataset: Dataset, *classes: str) -> list[tuple[object, ...]]:
    boxes = read_boxes(dataset, classes or dataset.classes)
    assert boxes is not None
    return [tuple(box) for box in boxes.tolist()]


def test_vocs_boxes_count_from_0_and_end_with_the_picture_unless_exif_turns_it(voc: Path):
    from voc_cls.data.load import open_reader

    split = open_reader("voc", voc).splits[0]
    dataset = read_dataset("voc", voc, split)
    assert [path.name for path in dataset.paths] == ["a.jpg", "b.jpg"]
    assert boxes_of(dataset) == [(0, 1, 0, 0, 20, 30, 40, 30, False), (0, 0, 10, 0, 40, 30, 40, 30, True)]
    assert boxes_of(dataset, "dog") == [(0, 0, 0, 0, 20, 30, 40, 30, False)]


def test_cocos_boxes_are_the_same_numbers_and_a_crowd_has_none(tmp_path: Path):
    (tmp_path / "train2017").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "train2017/a.jpg")
    annotations = [{"id": number, "image_id": 1, "category_id": 1, "iscrowd": crowd, "bbox": box}
                   for number, crowd, box in ((1, 0, [0, 0, 20, 30]), (2, 1, [1, 1, 2, 2]), (3, 0, "damaged"))]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2017.json").write_text(json.dumps({
        "images": [{"id": 1, "file_name": "a.jpg"}], "annotations": annotations,
        "categories": [{"id": 1, "name": "dog"}]}))
    assert boxes_of(read_dataset("coco", tmp_path, "train2017")) == [(0, 0, 0, 0, 20, 30, 40, 30, False)]


def test_other_data_sets_and_pictures_chosen_in_python_have_none(voc: Path):
    (voc / "list.csv").write_text("path,class\na.jpg,dog\nb.jpg,cat\n")
    assert read_boxes(read_dataset("csv", voc / "list.csv", "list"), ("cat", "dog")) is None
    from voc_cls.data.load import open_reader

    dataset = read_dataset("voc", voc, open_reader("voc", voc).splits[0])
    assert read_boxes(dataset.subset(np.array([0]), "one"), dataset.classes) is None
