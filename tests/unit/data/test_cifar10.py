"""CIFAR-10 from folders and archives, whole, cut, of another data set and hostile."""

from __future__ import annotations

import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cifar10 import BATCHES, NAMES, Records, drawn, pack, python2_pickle, write_python
from voc_cls.data.dataset import Dataset, DifficultPolicy, Task
from voc_cls.data.load import read_dataset
from voc_cls.errors import DataError

RECORDS = 20


@pytest.fixture
def batches() -> dict[str, Records]:
    return drawn(RECORDS)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def read(root: Path, split: str = "train") -> Dataset:
    return read_dataset("cifar10", root, split, DifficultPolicy.IGNORE)


def pixels(record: Records) -> Records:
    """[32, 32, 3] RGB as the data set's page says: 1,024 red, 1,024 green, 1,024 blue, row by row."""
    picture = np.empty((32, 32, 3), np.uint8)
    for channel in range(3):
        for row in range(32):
            start = 1 + 1024 * channel + 32 * row
            picture[row, :, channel] = record[start:start + 32]
    return picture


def test_the_official_splits_have_the_pictures_and_labels_of_their_batches_in_order(tmp_path: Path,
                                                                                 batches: dict[str, Records]):
    root = write_python(tmp_path, batches)
    for split, names in (("train", BATCHES[:5]), ("test", BATCHES[5:])):
        dataset = read(root, split)
        records = np.concatenate([batches[name] for name in names])
        assert (dataset.classes, dataset.task, len(dataset)) == (NAMES, Task.SINGLE_LABEL, len(records))
        assert dataset.labels.argmax(axis=1).tolist() == records[:, 0].tolist()
        assert (dataset.labels.sum(axis=1) == 1).all()
        assert not dataset.ignored.any()
        for path, record in zip(dataset.paths, records, strict=True):
            np.testing.assert_array_equal(cv2.imread(str(path))[:, :, ::-1], pixels(record))


def test_the_folder_the_folder_above_and_the_archive_are_the_same_data_set(tmp_path: Path, batches: dict[str, Records]):
    folder = write_python(tmp_path / "a", batches)
    first = read(folder, "test")
    for root in (folder.parent, pack(folder, tmp_path / "cifar-10-python.tar.gz")):
        again = read(root, "test")
        assert (again.name, again.paths, again.classes) == (first.name, first.paths, first.classes)
        np.testing.assert_array_equal(again.labels, first.labels)


def test_batches_that_python_3_pickled_are_read_too(tmp_path: Path, batches: dict[str, Records]):
    root = write_python(tmp_path, batches)
    labels = batches["test_batch"][:, 0].tolist()
    (root / "test_batch").write_bytes(pickle.dumps({b"data": batches["test_batch"][:, 1:], b"labels": labels}))
    assert read(root, "test").labels.argmax(axis=1).tolist() == labels


def test_pictures_are_unpacked_once_and_only_damaged_ones_again(tmp_path: Path, batches: dict[str, Records],
                                                              capfd: pytest.CaptureFixture[str]):
    root = write_python(tmp_path, batches)
    paths = read(root, "test").paths
    written = {path: (path.stat().st_ino, path.read_bytes()) for path in paths}
    paths[3].write_bytes(paths[4].read_bytes())
    paths[5].write_bytes(b"")
    paths[6].rename(tmp_path / "kept")  # so that no new file gets its inode
    paths[7].write_bytes(paths[7].read_bytes()[:-40])
    assert read(root, "test").paths == paths
    changed = {number for number, path in enumerate(paths) if path.stat().st_ino != written[path][0]}
    assert changed == {3, 5, 6, 7}
    assert [path.read_bytes() for path in paths] == [content for _, content in written.values()]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(path.name for path in paths)
    assert capfd.readouterr().out == ""


def test_an_unknown_split_lists_those_that_exist(tmp_path: Path, batches: dict[str, Records]):
    with pytest.raises(DataError, match=r"no split 'val'; the splits are: train, test$"):
        read(write_python(tmp_path, batches), "val")


def written(name: str, content: object) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(python2_pickle(content))


def python_batch(**changed: object) -> Callable[[Path], object]:
    content = {b"data": np.zeros((4, 3072), np.uint8), b"labels": [0, 1, 2, 3]}
    content |= {name.encode(): value for name, value in changed.items()}  # type: ignore[misc]
    kept = {name: value for name, value in content.items() if value is not None}
    return written("test_batch", kept)


class Command:
    """What a hostile pickle runs."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch broken_in",)


@pytest.mark.parametrize(("spoil", "found"), [
    (lambda root: (root / "test_batch").unlink(), "test_batch: no such file"),
    (lambda root: ((root / "test_batch").unlink(), os.mkfifo(root / "test_batch")), "a device, pipe or socket"),
    (lambda root: os.truncate(root / "test_batch", 5000), "test_batch cannot be"),
    (written("test_batch", Command()), "test_batch holds the wish to run .*system"),
    (written("test_batch", [1, 2]), "test_batch: holds a list"),
    (python_batch(data=None, fine_labels=[1]), r"test_batch: holds \[b'labels', b'fine_labels'\]"),
    (python_batch(data=np.zeros((4, 3073), np.uint8)), r"is uint8 \[4, 3073\] with 4 labels where uint8 "),
    (python_batch(data=np.zeros((4, 3072))), r"is float64 \[4, 3072\]"),
    (python_batch(labels=[1, 2]), r"is uint8 \[4, 3072\] with 2 labels where"),
    (python_batch(labels=[1, 2, 3, 10]), "labels that are not numbers from 0 to 9"),
    (python_batch(labels=[1, 2, 3, b"4"]), "labels that are not numbers from 0 to 9"),
    (written("batches.meta", {b"fine_label_names": []}), "no list b'label_names'"),
    (written("batches.meta", {b"label_names": [b"cat"] * 10}), "names 1 classes"),
    (lambda root: (root / "batches.meta").unlink(), "is not a folder of CIFAR-10, .*found: data_batch_1"),
])
def test_a_spoilt_python_version_is_one_sentence(tmp_path: Path, batches: dict[str, Records], cache: Path, found: str,
                                                 spoil: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    root = write_python(tmp_path, batches)
    spoil(root)
    with pytest.raises(DataError, match=found) as error:
        read(root, "test")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "broken_in").exists()
    assert not cache.exists()


def test_half_a_download_is_said_to_be_one(tmp_path: Path, batches: dict[str, Records]):
    archive = pack(write_python(tmp_path, batches), tmp_path / "cifar-10-python.tar.gz")
    whole = archive.read_bytes()
    for kept in (0, 10, len(whole) // 3, len(whole) - 9):
        archive.write_bytes(whole[:kept])
        with pytest.raises(DataError, match=r"cifar-10-python.tar.gz: .* again with `voc-data download cifar10`"):
            read(archive)


def test_names_in_an_archive_that_lead_out_of_its_folder_are_never_written(tmp_path: Path,
                                                                             batches: dict[str, Records]):
    folder = write_python(tmp_path, batches)
    for name in ("../evil", "cifar-10-batches-py/../../evil"):
        with pytest.raises(DataError, match=r"evil' in it, which leads out of the folder"):
            read(pack(folder, tmp_path / "x.tar.gz", {name: b"evil"}), "test")
    assert len(read(pack(folder, tmp_path / "x.tar.gz", {str(tmp_path / "evil"): b"evil"}), "test")) == RECORDS
    assert not list(tmp_path.parent.rglob("evil"))


def test_an_archive_with_a_batch_as_a_link_is_refused(tmp_path: Path, batches: dict[str, Records]):
    root = write_python(tmp_path, batches)
    (root / "test_batch").unlink()
    (root / "test_batch").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match=r"test_batch' in it, which is not a file or a folder"):
        read(pack(root, tmp_path / "link.tar.gz"), "test")


def test_an_archive_of_something_else_or_without_end_is_refused(tmp_path: Path):
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python/train").write_bytes(bytes(100))
    with pytest.raises(DataError, match=r"has no cifar-10-batches-py/batches.meta; it is an incomplete download"):
        read(pack(tmp_path / "cifar-100-python", tmp_path / "c.tar.gz"))
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as bomb:
        member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        member.size = 2**40
        bomb.addfile(member)
    with pytest.raises(DataError, match=r"claims more than 2,147,483,648 bytes unpacked"):
        read(tmp_path / "bomb.tar.gz")


def test_a_wrong_root_says_what_stands_there_and_what_is_near(tmp_path: Path, batches: dict[str, Records]):
    with pytest.raises(DataError, match="no such file or folder; `root` takes cifar-10-batches-py"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"found: nothing\); `root` takes"):
        read(tmp_path)
    archive = pack(write_python(tmp_path / "a", batches), tmp_path / "cifar-10-python.tar.gz")
    with pytest.raises(DataError, match=f"pass `root` {archive}"):
        read(tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, batches: dict[str, Records], cache: Path):
    cache.write_text("a file")
    with pytest.raises(DataError, match=r"cache/cifar10: .*another folder in VOC_CACHE_DIR"):
        read(write_python(tmp_path, batches))
