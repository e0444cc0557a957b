"""A split of a data set: how it is divided, described and handed to other tools, and where it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cifar10 import drawn, write_python
from voc_cls.data.dataset import Dataset, DifficultPolicy, Draw, Source, Task
from voc_cls.data.load import load_dataset, read_dataset
from voc_cls.errors import DataError, UsageError


@pytest.fixture
def animals() -> Dataset:
    """40 images of a multi-label data set, a third of them with an ignored entry."""
    labels = np.array([[row % 2, row % 3 == 0] for row in range(40)], np.float32)
    ignored = np.zeros(labels.shape, bool)
    ignored[1::3, 1] = True
    return Dataset("Animals", ("cat & mouse", "dog"), tuple(Path(f"/{row}.jpg") for row in range(40)), labels, ignored)


def test_a_split_divides_every_class_and_keeps_the_order(animals: Dataset):
    rest, drawn_part = animals.split(0.25, seed=3)
    assert (len(rest), len(drawn_part)) == (30, 10)
    assert sorted([*rest.paths, *drawn_part.paths]) == sorted(animals.paths)
    for part in (rest, drawn_part):
        rows = [animals.paths.index(path) for path in part.paths]
        assert rows == sorted(rows)
        np.testing.assert_array_equal(part.targets, animals.targets[rows])
    assert abs(drawn_part.positives["dog"] - animals.positives["dog"] / 4) <= 1
    assert animals.split(0.25, seed=3)[1].paths == drawn_part.paths != animals.split(0.25, seed=4)[1].paths


def test_a_fraction_that_leaves_a_part_empty_is_named(animals: Dataset):
    for fraction in (0.0, 0.001, 1.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match=r"^`fraction` .*: takes 0 of the 40 pictures of Animals"):
            animals.split(fraction)


def test_few_images_of_many_classes_are_divided_too():
    labels = np.eye(14, 20, dtype=np.float32)
    classes, paths = tuple(f"class {column}" for column in range(20)), tuple(Path(f"/{row}.jpg") for row in range(14))
    few = Dataset("few", classes, paths, labels, np.zeros(labels.shape, bool))
    for seed in range(20):
        rest, part = few.split(0.15, seed)
        assert len(rest) + len(part) == 14
        assert len(part) >= 1


def test_a_part_remembers_the_data_set_and_every_draw(drawn_devkit: Path):
    trainval = read_dataset("voc", drawn_devkit, "trainval", DifficultPolicy.NEGATIVE)
    assert trainval.source == Source("voc", (drawn_devkit,), "trainval", DifficultPolicy.NEGATIVE)
    rest, val = trainval.split(0.3, seed=1)
    _, part = rest.split(0.5, seed=2)
    assert val.source == Source("voc", (drawn_devkit,), "trainval", DifficultPolicy.NEGATIVE,
                                (Draw(0.3, 1, taken=True),))
    assert part.source is not None
    assert part.source.draws == (Draw(0.3, 1, taken=False), Draw(0.5, 2, taken=True))
    assert rest.subset(np.array([0, 2]), "two").source is None
    assert rest.only([0]).source is None


def test_a_description_counts_images_and_the_most_frequent_classes(animals: Dataset, drawn_devkit: Path):
    assert repr(animals) == "Dataset('Animals': 40 images, multi-label, 2 classes: cat & mouse 20, dog 14)"
    described = repr(read_dataset("voc", drawn_devkit, "test"))
    assert described.startswith("Dataset('VOC2007 test': 10 images, multi-label, 20 classes: ")
    assert described.endswith(", …)")


def test_jupyter_shows_a_table_with_names_escaped(animals: Dataset):
    shown = animals._repr_html_()
    assert "<td>cat &amp; mouse</td><td>20</td><td>0</td>" in shown
    assert "<td>dog</td><td>14</td><td>13</td>" in shown
    assert "ignored" not in animals.only([0])._repr_html_()


def test_records_have_a_path_and_the_names_of_the_classes(animals: Dataset):
    records = animals.to_records()
    assert records[:3] == [{"path": "/0.jpg", "labels": ["dog"], "ignored": []},
                           {"path": "/1.jpg", "labels": ["cat & mouse"], "ignored": ["dog"]},
                           {"path": "/2.jpg", "labels": [], "ignored": []}]
    single = Dataset("s", ("cat", "dog"), (Path("a.jpg"),), np.array([[0, 1]], np.float32), np.zeros((1, 2), bool),
                     task=Task.SINGLE_LABEL)
    assert single.to_records() == [{"path": "a.jpg", "label": "dog"}]


@pytest.fixture
def tree(drawn_devkit: Path, tmp_path: Path) -> Path:
    """A tree of two classes of one image each."""
    for name, image in (("cat", "000001.jpg"), ("dog", "000002.jpg")):
        (tmp_path / "tree" / name).mkdir(parents=True)
        (tmp_path / "tree" / name / "1.jpg").write_bytes((drawn_devkit / "JPEGImages" / image).read_bytes())
    return tmp_path / "tree"


def test_a_loaded_data_set_is_a_mapping_that_reads_a_split_when_it_is_needed(devkit: Path):
    (devkit / "JPEGImages/000003.jpg").write_bytes(b"")  # of test
    data = load_dataset(str(devkit))
    assert list(data) == ["test", "train", "trainval", "val"]
    assert (len(data), data.task, data.classes[:2]) == (4, Task.MULTI_LABEL, ("aeroplane", "bicycle"))
    assert data["trainval"] is data["trainval"]
    assert data["trainval"].paths == read_dataset("voc", devkit, "trainval").paths
    with pytest.raises(DataError, match=r"000003.jpg: is empty"):
        data["test"]
    with pytest.raises(KeyError, match=r"'tests' is not a split of .*; it has test, train, trainval, val"):
        data["tests"]
    assert "train: 10" in repr(data)
    assert "test: cannot be read" in repr(data)
    assert "<td>trainval</td><td>20</td>" in data._repr_html_()


def test_the_kind_is_recognised_from_the_content(drawn_devkit: Path, tree: Path, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VOC_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/mine.csv").write_text(f"path,class\n{tree}/cat/1.jpg,cat\n{tree}/dog/1.jpg,dog\n")
    cifar10 = write_python(tmp_path / "cifar", drawn(10))
    for root, kind in ((drawn_devkit, "voc"), (tree, "folder"), (tmp_path / "lists", "csv"), (cifar10, "cifar10"),
                       (tmp_path / "lists/mine.csv", "csv"), (cifar10.parent, "cifar10")):
        assert load_dataset(root).kind == kind
    assert load_dataset(drawn_devkit.parent).kind == "voc"
    assert load_dataset(tree).classes == load_dataset(tmp_path / "lists").classes == ("cat", "dog")
    assert load_dataset(cifar10).task is Task.SINGLE_LABEL


def test_a_root_of_two_kinds_or_none_is_one_sentence(devkit: Path, tree: Path, tmp_path: Path):
    (tree / "mine.csv").write_text("path,class\ncat/1.jpg,cat\n")
    with pytest.raises(DataError, match="tree: can be read as csv and as folder; pass one of them as `kind`"):
        load_dataset(tree)
    assert load_dataset(tree, "folder")["all"].classes == ("cat", "dog")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: is not recognised as a data set"):
        load_dataset(tmp_path / "empty")
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=f"pass `root` {devkit}"):
        load_dataset(devkit.parent.parent, "voc")
    with pytest.raises(UsageError, match="`kind` 'video': must be one of voc"):
        load_dataset(tree, "video")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="`difficult` 'no': must be one of ignore"):
        load_dataset(devkit, difficult="no")
