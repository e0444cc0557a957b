"""`voc-data split`: what goes into which list, and how the lists are written."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from voc_cls.cli.data import Split
from voc_cls.data.dataset import Dataset, DifficultPolicy, Task
from voc_cls.data.load import open_reader, read_dataset
from voc_cls.data.split import Lists, check_per_class, draw_lists, write_lists
from voc_cls.errors import DataError, UsageError


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[[dict[str, int]], Path]:
    """Writes a tree of class folders with so many pictures each, all different: `pictures({"cat": 3})`."""
    def write(counts: dict[str, int]) -> Path:
        random = np.random.default_rng(0)
        for name, count in counts.items():
            (tmp_path / "tree" / name).mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(str(tmp_path / f"tree/{name}/{number}.png"), random.integers(0, 256, (5, 6, 3), np.uint8))
        return tmp_path / "tree"

    return write


@pytest.fixture
def several(tmp_path: Path) -> Dataset:
    """120 pictures with any number of five classes, the last of them rare, and ignored entries."""
    random = np.random.default_rng(3)
    labels = (random.random((120, 5)) < [0.5, 0.4, 0.3, 0.2, 0.08]).astype(np.float32)
    ignored = (random.random((120, 5)) < 0.1) & (labels == 0)
    paths = tuple(tmp_path / "pictures" / f"{number}.png" for number in range(120))
    paths[0].parent.mkdir()
    for path in paths:
        cv2.imwrite(str(path), random.integers(0, 256, (5, 6, 3), np.uint8))
    return Dataset("several", tuple("abcde"), paths, labels, ignored)


def read(root: Path, split: str) -> Dataset:
    return read_dataset("csv", root, split, DifficultPolicy.IGNORE)


def tree(root: Path) -> Dataset:
    return read_dataset("folder", root, "all", DifficultPolicy.IGNORE)


def counts(dataset: Dataset) -> list[int]:
    return [int(count) for count in dataset.labels.sum(axis=0)]


def test_every_class_goes_to_every_list_by_its_share(pictures: Callable[[dict[str, int]], Path]):
    lists = draw_lists(tree(pictures({"cat": 40, "dog": 100, "emu": 20})), 0.25, 0.1, None, seed=0)
    assert {name: counts(part) for name, part in lists.parts.items()} == {
        "train": [26, 65, 13], "val": [10, 25, 5], "test": [4, 10, 2]}


def test_every_class_of_several_goes_to_every_list_by_its_share(several: Dataset):
    lists = draw_lists(several, 0.2, 0.3, None, seed=0)
    for name, share in (("train", 0.5), ("val", 0.2), ("test", 0.3)):
        assert np.abs(np.array(counts(lists.parts[name])) - share * np.array(counts(several))).max() <= 2, name


def test_lists_are_apart_and_together_everything_in_the_order_it_had(several: Dataset):
    lists = draw_lists(several, 0.2, 0.3, None, seed=0)
    paths = [path for part in lists.parts.values() for path in part.paths]
    assert sorted(paths) == sorted(several.paths)
    order = {path: number for number, path in enumerate(several.paths)}
    for part in lists.parts.values():
        assert [order[path] for path in part.paths] == sorted(order[path] for path in part.paths)


def test_the_seed_decides_which(several: Dataset):
    first, again, other = (draw_lists(several, 0.2, 0.3, None, seed).parts for seed in (0, 0, 1))
    assert [part.paths for part in first.values()] == [part.paths for part in again.values()]
    assert first["val"].paths != other["val"].paths


@pytest.mark.parametrize("task", list(Task))
def test_folds_validate_on_each_picture_once_and_never_on_what_they_train_on(
        task: Task, several: Dataset, pictures: Callable[[dict[str, int]], Path]):
    dataset = several if task is Task.MULTI_LABEL else tree(pictures({"cat": 23, "dog": 31, "emu": 9}))
    parts = draw_lists(dataset, 0, 0.2, 3, seed=0).parts
    assert list(parts) == ["train_1", "val_1", "train_2", "val_2", "train_3", "val_3", "test"]
    rest = set(dataset.paths) - set(parts["test"].paths)
    assert sorted(itertools.chain(*(parts[f"val_{fold}"].paths for fold in (1, 2, 3)))) == sorted(rest)
    for fold in (1, 2, 3):
        assert set(parts[f"train_{fold}"].paths) == rest - set(parts[f"val_{fold}"].paths)
        share = np.array(counts(dataset)) * 0.8 / 3
        assert np.abs(np.array(counts(parts[f"val_{fold}"])) - share).max() <= 2.5


@pytest.mark.parametrize("folds", [None, 3])
def test_pictures_with_the_same_bytes_go_to_the_same_list(pictures: Callable[[dict[str, int]], Path],
                                                          folds: int | None):
    root = pictures({"cat": 20, "dog": 20})
    for number in range(10):
        shutil.copy(root / f"cat/{number}.png", root / f"cat/copy-of-{number}.png")
    lists = draw_lists(tree(root), 0 if folds else 0.3, 0.3, folds, seed=0)
    assert lists.repeated == 10
    for name, part in lists.parts.items():
        names = {path.name for path in part.paths if path.parent.name == "cat"}
        for number in range(10):
            assert (f"{number}.png" in names) == (f"copy-of-{number}.png" in names), name


@pytest.mark.parametrize("folds", [None, 3])
def test_roboflows_variants_of_a_picture_go_to_the_same_list(pictures: Callable[[dict[str, int]], Path],
                                                             folds: int | None):
    root = pictures({"cat": 36, "dog": 36})
    for path in root.glob("*/*.png"):
        path.rename(path.with_name(f"{int(path.stem) // 3}_jpg.rf.{path.stem}a.png"))

    def shared(group: str) -> int:
        parts = draw_lists(tree(root), 0 if folds else 0.25, 0.25, folds, 0, group).parts
        pairs = [("train_1", "val_1"), ("train_1", "test")] if folds else itertools.combinations(parts, 2)
        sources = {name: {path.name.split(".rf.")[0] for path in part.paths} for name, part in parts.items()}
        return sum(len(sources[first] & sources[second]) for first, second in pairs)

    assert shared("auto") == 0
    assert shared("none") > 5


def test_a_column_of_the_csv_groups_and_is_kept_in_the_lists(several: Dataset, tmp_path: Path):
    patients = tuple(f"patient {number // 4}" for number in range(len(several)))
    write_lists(draw_lists(replace(several, columns={"patient": patients}), 0.2, 0.2, None, 0, "patient"),
                tmp_path / "lists")
    parts = [read(tmp_path / "lists", name) for name in ("train", "val", "test")]
    assert [len(set(part.columns["patient"])) for part in parts] == [18, 6, 6]
    val_fraction = parts[0].split(0.25, group="patient")
    assert set(val_fraction[0].columns["patient"]).isdisjoint(val_fraction[1].columns["patient"])


def test_lists_are_read_back_as_they_were_drawn(several: Dataset, tmp_path: Path):
    lists = draw_lists(several, 0.2, 0.3, None, seed=0)
    write_lists(lists, tmp_path / "some/lists")
    assert open_reader("csv", tmp_path / "some/lists").splits == ("test", "train", "val")
    for name, part in lists.parts.items():
        again = read(tmp_path / "some/lists", name)
        assert (again.classes, again.task) == (part.classes, part.task)
        assert [path.resolve() for path in again.paths] == list(part.paths)
        np.testing.assert_array_equal(again.targets, part.targets)
    assert "../../pictures/" in (tmp_path / "some/lists/train.csv").read_text()
    assert os.listdir(tmp_path / "some") == ["lists"]


def test_odd_names_survive_the_way_through_a_list(pictures: Callable[[dict[str, int]], Path], tmp_path: Path):
    root = pictures({'Café, "猫"': 4, "dog|cat": 4})
    for path in sorted(root.glob("dog*/*")):
        path.rename(path.with_name(f' {path.stem}, "x"\n.png'))
    write_lists(draw_lists(tree(root), 0.5, 0, None, seed=0), tmp_path / "lists")
    again = [read(tmp_path / "lists", name) for name in ("train", "val")]
    assert again[0].classes == again[1].classes == ('Café, "猫"', "dog|cat")
    assert {path.resolve() for dataset in again for path in dataset.paths} == set(root.glob("*/*"))


def test_lists_behind_a_link_lead_to_the_pictures_too(pictures: Callable[[dict[str, int]], Path], tmp_path: Path):
    root = pictures({"cat": 4, "dog": 4})
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far/away")
    write_lists(draw_lists(tree(root), 0.5, 0, None, seed=0), tmp_path / "near/lists")
    assert len(read(tmp_path / "near/lists", "train")) == 4


def test_a_folder_that_exists_is_never_touched(several: Dataset, tmp_path: Path):
    (tmp_path / "lists").mkdir()
    with pytest.raises(DataError, match=r"`out` .*/lists: exists already"):
        write_lists(draw_lists(several, 0.2, 0.3, None, seed=0), tmp_path / "lists")
    assert os.listdir(tmp_path / "lists") == []


def test_a_class_that_a_list_cannot_hold_leaves_nothing_behind(several: Dataset, tmp_path: Path):
    barred = Dataset("x", ("a|b", *several.classes[1:]), several.paths, several.labels, several.ignored)
    with pytest.raises(DataError, match=r"the class 'a\|b' holds a '\|'"):
        write_lists(draw_lists(barred, 0.2, 0.3, None, seed=0), tmp_path / "lists")
    assert os.listdir(tmp_path) == ["pictures"]


@pytest.mark.parametrize(("flags", "found"), [
    ({"folds": 4}, "`folds` 4: .* 3 pictures of the class 'rare', fewer than there are folds; choose at most 3"),
    ({"folds": 1}, "`folds` 1: must be from 2 to 100"),
    ({"folds": 2, "val": 0.1}, "--val 0.1: cannot be combined with --folds"),
    ({"val": 0.5, "test": 0.5}, "`val` 0.5 and `test` 0.5: leave nothing to train on"),
    ({"val": 0.0, "test": 0.0}, "`val` 0 and `test` 0: leave one list of everything"),
    ({"test": 0.01}, "`test` 0.01: takes 0 of the 23 pictures"),
    ({"group": "patient"}, "`group` patient: is neither a column of the CSV nor a regular expression"),
    ({"val": -0.1}, "`val` -0.1: must be from 0 to 0.999"),
    ({"test": float("nan")}, "`test` nan: must be from 0"),
    ({"seed": -1}, "`seed` -1: must be from 0 to 4294967295"),
])
def test_what_cannot_be_drawn_is_said_and_nothing_is_written(
        pictures: Callable[[dict[str, int]], Path], tmp_path: Path, flags: dict[str, float], found: str):
    chosen = {"test": 0.0, **flags} if "folds" in flags else flags
    with pytest.raises(UsageError, match=found):
        Split(root=pictures({"cat": 20, "rare": 3}), out=tmp_path / "lists", **chosen).run()  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["tree"]


def test_a_rare_class_among_several_on_a_picture_is_spread_as_far_as_it_goes(several: Dataset):
    rare = np.zeros((len(several), 1), np.float32)
    rare[:2] = 1
    dataset = replace(several, classes=(*several.classes, "rare"), labels=np.hstack([several.labels, rare]),
                      ignored=np.hstack([several.ignored, rare > 1]))
    drawn = dataset.stratified(dataset.grouping(), list(map(str, dataset.paths))).folds(5, 0)
    assert sorted(np.concatenate([val for _, val in drawn])) == list(range(len(dataset)))
    assert max(dataset.labels[val, -1].sum() for _, val in drawn) == 1


def test_a_class_with_a_single_picture_is_named(pictures: Callable[[dict[str, int]], Path], tmp_path: Path):
    with pytest.raises(UsageError, match=r"`test` 0.15: .* single picture of the class 'rare', which"):
        Split(root=pictures({"cat": 20, "rare": 1}), out=tmp_path / "lists").run()


def test_what_the_test_part_has_left_is_called_so(pictures: Callable[[dict[str, int]], Path], tmp_path: Path):
    with pytest.raises(UsageError, match=r"`folds` 20: .* without its test part has 17 pictures; choose at most 17"):
        Split(root=pictures({"cat": 10, "dog": 10}), out=tmp_path / "lists", folds=20).run()


@pytest.mark.parametrize("folds", [None, 3, 10])
def test_the_table_fits_a_terminal_of_80_columns(pictures: Callable[[dict[str, int]], Path], folds: int | None):
    dataset = tree(pictures({"Small-flowered Cranesbill": 30, "Maize": 40}))
    lists: Lists = draw_lists(dataset, 0 if folds else 0.15, 0.15, folds, seed=0)
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(lists)
    console.file.close()
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "Small-flowered Cranesbill" in text
    assert "70 pictures" in text


def test_the_command_says_how_to_go_on(pictures: Callable[[dict[str, int]], Path], tmp_path: Path,
                                      capsys: pytest.CaptureFixture[str]):
    root = pictures({"cat": 20, "dog": 20})
    Split(root=root, out=tmp_path / "lists").run()
    assert f"voc-train --data csv --root {tmp_path}/lists --val-split val --weights" in capsys.readouterr().out
    Split(root=root, out=tmp_path / "folds", folds=2).run()
    assert f"voc-train --data csv --root {tmp_path}/folds --fold 1 --weights" in capsys.readouterr().out


def test_the_lecture_has_a_list_for_each_class_and_folds_from_0(pictures: Callable[[dict[str, int]], Path],
                                                                tmp_path: Path):
    source = tree(pictures({"cat": 10, "dog": 15}))
    lists, out = draw_lists(source, 0, 0.2, 5, 0), tmp_path / "data_list/cat_dog/k_fold"
    check_per_class(source)
    write_lists(lists, out, per_class=True)
    assert {path.name for path in out.iterdir()} == {
        "test_cat.csv", "test_dog.csv", *(f"{side}_{name}_{fold}.csv" for side in ("train", "val")
                                          for name in ("cat", "dog") for fold in range(5))}
    assert (out / "val_dog_0.csv").read_text().splitlines()[0] == "path,class"
    assert {line.rpartition(",")[2] for line in (out / "val_dog_0.csv").read_text().splitlines()[1:]} == {"1"}
    for split, name in (("train_0", "train_1"), ("val_4", "val_5"), ("test", "test")):
        again, drawn = read(out, split), lists.parts[name]
        assert again.classes == ("cat", "dog")
        assert {(path.resolve(), tuple(row)) for path, row in zip(again.paths, again.labels, strict=True)} == {
            (path.resolve(), tuple(row)) for path, row in zip(drawn.paths, drawn.labels, strict=True)}
    with pytest.raises(UsageError, match="`per_class`: the class '3d' cannot be in the name of a list"):
        check_per_class(replace(source, classes=("cat", "3d")))


def test_a_list_for_each_class_is_of_pictures_with_one_class(several: Dataset):
    with pytest.raises(UsageError, match=r"`per_class`: .* is multi-label"):
        check_per_class(several)
