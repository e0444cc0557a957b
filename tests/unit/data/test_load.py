"""All kinds of data sets behind one door."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cifar10 import drawn, write_python
from voc_cls.data.dataset import DataKind, DifficultPolicy, Task
from voc_cls.data.load import default_splits, open_reader, read_dataset
from voc_cls.errors import DataError, UsageError

KINDS: tuple[tuple[DataKind, Task], ...] = (("voc", Task.MULTI_LABEL), ("cifar10", Task.SINGLE_LABEL),
                                            ("csv", Task.MULTI_LABEL), ("folder", Task.SINGLE_LABEL),
                                            ("coco", Task.MULTI_LABEL), ("label-studio", Task.MULTI_LABEL))


@pytest.fixture
def roots(devkit: Path, tmp_path: Path) -> dict[str, Path]:
    """A small data set of every kind."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "tree" / split / name).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / f"tree/{split}/{name}/1.jpg"), np.zeros((8, 8, 3), np.uint8))
        lines = "path,labels", f"{split}/cat/1.jpg,cat|pet", f"{split}/dog/1.jpg,dog", ""
        (tmp_path / "tree" / f"{split}.csv").write_text("\n".join(lines))
        (tmp_path / "coco/annotations").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"coco/annotations/instances_{split}.json").write_text(json.dumps({
            "images": [{"id": number, "file_name": f"tree/{split}/{name}/1.jpg"}
                       for number, name in ((1, "cat"), (2, "dog"))],
            "annotations": [{"image_id": 1, "category_id": 3}, {"image_id": 2, "category_id": 4}],
            "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}]}))
        (tmp_path / f"tasks/{split}.json").parent.mkdir(exist_ok=True)
        (tmp_path / f"tasks/{split}.json").write_text(json.dumps([
            {"data": {"image": f"tree/{split}/{name}/1.jpg"},
             "annotations": [{"result": [{"type": "choices", "value": {"choices": [name]}}]}]}
            for name in ("cat", "dog")]))
    return {"voc": devkit, "cifar10": write_python(tmp_path, drawn(20)), "csv": tmp_path / "tree",
            "folder": tmp_path / "tree", "coco": tmp_path / "coco", "label-studio": tmp_path / "tasks"}


@pytest.mark.parametrize(("data", "task"), KINDS)
def test_every_kind_names_its_splits_and_reads_its_own_for_training_and_evaluation(
        roots: dict[str, Path], data: DataKind, task: Task):
    root = roots[data]
    defaults = default_splits(data, root)
    assert defaults == (("trainval", "test") if data == "voc" else ("train", "test"))
    assert set(defaults) <= set(open_reader(data, root).splits)
    train, test = (read_dataset(data, root, split, DifficultPolicy.IGNORE) for split in defaults)
    assert train.classes == test.classes
    assert train.task is test.task is task
    assert all(path.is_file() for path in (*train.paths, *test.paths))
    assert set(train.paths).isdisjoint(test.paths)


@pytest.mark.parametrize(("data", "_"), KINDS)
def test_every_kind_lists_its_splits_where_one_does_not_exist(roots: dict[str, Path], data: DataKind, _: Task):
    with pytest.raises(DataError) as error:
        read_dataset(data, roots[data], "holidays", DifficultPolicy.IGNORE)
    assert "holidays" in str(error.value)
    assert ", ".join(open_reader(data, roots[data]).splits) in str(error.value)


@pytest.mark.parametrize(("data", "_"), KINDS)
def test_only_voc_knows_difficult_objects(roots: dict[str, Path], data: DataKind, _: Task):
    if data == "voc":
        assert read_dataset(data, roots[data], "test", DifficultPolicy.POSITIVE).difficult is DifficultPolicy.POSITIVE
    else:
        with pytest.raises(UsageError, match=f"`difficult` positive: only voc has difficult objects, {data} has none"):
            read_dataset(data, roots[data], "test", DifficultPolicy.POSITIVE)


def test_the_problems_of_a_devkit_are_gathered(roots: dict[str, Path]):
    for name in ("000001", "000002"):
        (roots["voc"] / f"JPEGImages/{name}.jpg").unlink()
    scan = open_reader("voc", roots["voc"]).scan("trainval")
    assert len(scan.problems) == 2
    with pytest.raises(DataError, match=r"000001.jpg does not exist.*\(and 1 more: `voc-data check` lists them all\)"):
        scan.checked()
