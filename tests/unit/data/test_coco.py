"""COCO's annotations as labels: its own folders, Roboflow's, and what a file can get wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.load import default_splits, open_reader, read_dataset, recognise_kind
from voc_cls.errors import DataError


def content() -> dict[str, Any]:
    """Three images: a cat and two dogs (one a crowd), a dog, nothing."""
    box = {"bbox": [0, 0, 4, 4], "area": 16, "segmentation": [[0, 0, 4, 0, 4, 4]]}
    return {"info": {"year": 2017}, "licenses": [],
            "images": [{"id": number, "file_name": f"00{number}.jpg", "width": 9, "height": 8} for number in (1, 2, 3)],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 18, "iscrowd": 0, **box},
                            {"id": 2, "image_id": 1, "category_id": 17, "iscrowd": 0, **box},
                            {"id": 3, "image_id": 1, "category_id": 18, "iscrowd": 0, **box},
                            {"id": 4, "image_id": 2, "category_id": 18, "iscrowd": 1, **box}],
            "categories": [{"id": 18, "name": "dog", "supercategory": "animal"},
                           {"id": 17, "name": "cat", "supercategory": "animal"}]}


def write(file: Path, images: Path, values: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))
    images.mkdir(parents=True, exist_ok=True)
    for image in values["images"]:
        cv2.imwrite(str(images / image["file_name"]), np.full((8, 9, 3), 50, np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """COCO's folders, of two splits."""
    for split in ("train2017", "val2017"):
        write(tmp_path / f"coco/annotations/instances_{split}.json", tmp_path / "coco" / split, content())
        (tmp_path / f"coco/annotations/captions_{split}.json").write_text("{}")
    return tmp_path / "coco"


def read(root: Path, split: str = "train2017") -> Dataset:
    return read_dataset("coco", root, split)


def test_an_image_has_the_categories_of_its_annotations_crowds_too_or_none(root: Path):
    assert recognise_kind(root) == "coco"
    assert open_reader("coco", root).splits == ("train2017", "val2017")
    assert default_splits("coco", root) == ("train2017", "none")
    dataset = read(root)
    assert (dataset.name, dataset.task, dataset.classes) == ("coco train2017", Task.MULTI_LABEL, ("cat", "dog"))
    assert dataset.labels.tolist() == [[1, 1], [0, 1], [0, 0]]
    assert [path.relative_to(root).as_posix() for path in dataset.paths] == [
        "train2017/001.jpg", "train2017/002.jpg", "train2017/003.jpg"]
    assert dataset.warnings == (f"{root}/annotations/instances_train2017.json: 1 of 3 pictures have no annotations; "
                                   "they show none of the classes",)
    assert read(root, "val2017").paths[0].parent.name == "val2017"


@pytest.mark.parametrize("images", ["images/train2017", "images", "."])
def test_images_may_be_in_other_usual_folders(root: Path, images: str):
    write(root / "annotations/instances_train2017.json", root / images, content())
    for path in (root / "train2017").iterdir():
        path.unlink()
    assert read(root).paths[0] == root / images / "001.jpg"
    assert read(root / "annotations/instances_train2017.json").paths[0].name == "001.jpg"


def test_file_names_may_have_folders(root: Path):
    values = content()
    for image in values["images"]:
        image["file_name"] = f"train2017/{image['file_name']}"
    (root / "annotations/instances_train2017.json").write_text(json.dumps(values))
    assert read(root).paths[0].parent == root / "train2017"


def test_roboflows_folders_are_splits_and_its_category_0_is_none(tmp_path: Path):
    values = content()
    values["categories"].insert(0, {"id": 0, "name": "animal", "supercategory": "none"})
    for split in ("train", "valid", "test"):
        write(tmp_path / split / "_annotations.coco.json", tmp_path / split, values)
    assert recognise_kind(tmp_path) == "coco"
    assert default_splits("coco", tmp_path) == ("train", "test")
    assert read(tmp_path, "valid").classes == ("cat", "dog")
    assert read(tmp_path / "test", "test").classes == ("cat", "dog")


def changed(key: str, change: Callable[[list[Any]], object]) -> Callable[[Path], object]:
    def spoil(file: Path) -> None:
        values = content()
        change(values[key])
        file.write_text(json.dumps(values))

    return spoil


@pytest.mark.parametrize(("spoil", "found"), [
    (lambda file: file.write_text("{"), r"is not JSON \(Expecting property name"),
    (lambda file: file.write_text("[]"), r"has no lists 'images', 'annotations', 'categories', as COCO's instances do"),
    (lambda file: file.write_text('{"images": []}'), r"has no lists"),
    (lambda file: file.write_text("[" * 100_000), r"is not JSON"),
    (changed("images", lambda images: images[0].pop("file_name")), r"lacks a key of COCO .*\('file_name' is missing\)"),
    (changed("images", lambda images: images.append(7)), r"lacks a key of COCO"),
    (changed("images", lambda images: images.append(dict(images[0]))), r"has the image id 1 twice"),
    (changed("annotations", lambda found: found[0].update(image_id=[9])), r"lacks a key of COCO"),
    (changed("annotations", lambda found: found[0].update(image_id=9)), r"an annotation has an image_id or"),
    (changed("annotations", lambda found: [item.update(category_id=9) for item in found]), r"list \(and 3 more\)"),
    (changed("categories", lambda found: found[0].update(name="")), r"has an empty class"),
    (changed("images", lambda images: images[0].update(file_name="no.jpg")), r"json: .*no.jpg: no such file"),
])
def test_a_file_that_cannot_be_meant_is_one_sentence(root: Path, spoil: Callable[[Path], object], found: str):
    file = root / "annotations/instances_train2017.json"
    spoil(file)
    with pytest.raises(DataError, match=found) as error:
        read(root)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_wrong_roots_and_splits_are_named(root: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"there is no split 'test'; the splits are: train2017, val2017"):
        read(root, "test")
    with pytest.raises(DataError, match=r"no such file or folder; `root` takes the folder above annotations/"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no annotations of COCO"):
        read(tmp_path / "empty")


def test_categories_of_one_name_are_one_class_and_told(root: Path):
    values = content()
    values["categories"].append({"id": 90, "name": "cat"})
    values["annotations"][3]["category_id"] = 90
    (root / "annotations/instances_val2017.json").write_text(json.dumps(values))
    dataset = read(root, "val2017")
    assert dataset.labels.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert "has 3 categories with 2 names; those of one name are one class" in dataset.warnings[0]


def test_splits_have_the_categories_of_all_files(root: Path):
    values = content()
    values["categories"].append({"id": 90, "name": "toothbrush"})
    (root / "annotations/instances_val2017.json").write_text(json.dumps(values))
    assert read(root).classes == read(root, "val2017").classes == ("cat", "dog", "toothbrush")
    assert open_reader("coco", root).scan("val2017").problems == ()


def test_an_image_under_several_ids_is_taken_once_with_all_its_classes(root: Path):
    values = content()
    values["images"].append({**values["images"][0], "id": 9})
    values["annotations"] = [{"id": 1, "image_id": 1, "category_id": 18}, {"id": 2, "image_id": 9, "category_id": 17}]
    write(root / "annotations/instances_train2017.json", root / "train2017", values)
    dataset = read(root)
    assert dataset.labels.tolist() == [[1, 1], [0, 0], [0, 0]]
    assert "lists 1 pictures again under another id" in dataset.warnings[-1]


def test_a_category_without_a_name_is_a_problem(root: Path):
    values = content()
    values["categories"][0]["name"] = None
    write(root / "annotations/instances_train2017.json", root / "train2017", values)
    with pytest.raises(DataError, match=r"train2017.json: has an empty class"):
        read(root)
