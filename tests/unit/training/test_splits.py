"""The pictures of a run: the splits that are meant, folds, and a validation part taken out of the training split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from voc_cls.cli.evaluate import EvalConfig, read
from voc_cls.cli.train import PROGRAM
from voc_cls.data.dataset import Dataset, Task
from voc_cls.errors import DataError, UsageError
from voc_cls.training.config import DatasetConfig, NetworkConfig, TrainConfig, to_dict
from voc_cls.training.splits import CrossValidation, check_same_classes, read_splits

RUN = Path("run")


@pytest.fixture
def chosen(devkit: Path) -> DatasetConfig:
    return DatasetConfig(root=(devkit,), val_fraction=0.3)


def test_the_parts_are_apart_and_together_the_whole_split(chosen: DatasetConfig):
    whole = read_splits(replace(chosen, val_split="none").checked(), seed=0)
    carved = read_splits(chosen.checked(), seed=0)
    assert carved.val is not None
    assert whole.val is None
    assert set(carved.train.paths).isdisjoint(carved.val.paths)
    assert sorted(carved.train.paths + carved.val.paths) == sorted(whole.train.paths)
    by_path = dict(zip(whole.train.paths, whole.train.labels, strict=True))
    for path, labels in zip(carved.val.paths, carved.val.labels, strict=True):
        np.testing.assert_array_equal(labels, by_path[path])


def test_every_class_is_split_by_about_the_fraction(chosen: DatasetConfig):
    carved = read_splits(chosen.checked(), seed=0)
    assert carved.val is not None
    all_positives = carved.train.labels.sum(axis=0) + carved.val.labels.sum(axis=0)
    assert np.abs(carved.val.labels.sum(axis=0) - 0.3 * all_positives).max() <= 1.5


def test_the_seed_decides_which(chosen: DatasetConfig):
    first, again, other = (read_splits(chosen.checked(), seed).val for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.paths == again.paths != other.paths


@pytest.mark.parametrize("fraction", [0.0, 0.001, 1.0, -1.0, float("nan")])
def test_a_fraction_that_leaves_nothing_on_one_side_is_refused(chosen: DatasetConfig, fraction: float):
    with pytest.raises(UsageError, match="`val_fraction`"):
        read_splits(replace(chosen, val_fraction=fraction).checked(), seed=0)


def test_fractions_as_splits_are_parts_of_the_training_split(chosen: DatasetConfig):
    config = replace(chosen, val_split="0.25", eval_split="0.25").checked()
    assert (config.val_split, config.eval_split, config.checked()) == ("0.25", "0.25", config)
    whole = read_splits(replace(chosen, val_split="none", eval_split="none").checked(), seed=0).train
    first, *others = (read_splits(config, seed) for seed in range(5))
    assert first.val is not None
    assert first.eval is not None
    assert {other.eval and other.eval.paths for other in others} == {first.eval.paths}  # whatever the seed
    assert {other.val and other.val.paths for other in others} != {first.val.paths}
    assert sorted(path for split in first.all for path in split.paths) == sorted(whole.paths)
    assert 0.1 < len(first.val) / len(whole) < 0.45  # many classes, few pictures
    assert 0.1 < len(first.eval) / len(whole) < 0.45


def test_the_part_that_a_run_was_evaluated_on_is_drawn_again(chosen: DatasetConfig):
    config = TrainConfig(replace(chosen, eval_split="0.25"), NetworkConfig(weights="none")).checked()
    evaluated = read_splits(config.dataset, seed=0).eval
    assert evaluated is not None
    assert read(EvalConfig((RUN,)), RUN, to_dict(config) | {"provenance": {}}).paths == evaluated.paths


def test_a_data_set_without_a_class_of_the_run_is_refused_in_words_about_the_run(chosen: DatasetConfig):
    recorded = to_dict(TrainConfig(chosen, NetworkConfig(weights="none")).checked()) | {"provenance": {}}
    elsewhere = EvalConfig((RUN,), root=chosen.root, split="train")
    assert len(read(elsewhere, RUN, recorded))
    recorded["dataset"]["classes"] = ["persn"]
    with pytest.raises(UsageError, match=r"^the classes of run: unknown class 'persn', .* did you mean person"):
        read(elsewhere, RUN, recorded)


def test_some_of_the_classes_are_read_in_every_split(chosen: DatasetConfig):
    splits = read_splits(replace(chosen, classes=("person", "car")).checked(), seed=0)
    assert {split.classes for split in splits.all} == {("person", "car")}
    with pytest.raises(UsageError, match=r"`classes`: unknown class 'persn', .* did you mean person"):
        read_splits(replace(chosen, classes=("persn",)).checked(), seed=0)


def test_rare_classes_count_in_a_cross_validation_only_where_there_are_no_others():
    labels = np.stack([np.arange(90) % 3 == 0, np.arange(90) % 18 == 0], axis=1).astype(np.float32)  # 30 and 5 of 90
    paths = tuple(Path(f"{row}.jpg") for row in range(90))
    both = Dataset("made", ("common", "rare"), paths, labels, np.zeros(labels.shape, bool))
    wrong_of_rare = np.stack([labels[:, 0], -labels[:, 1]], axis=1)
    for train, right in ((both, True), (both.only([1]), False)):
        parts = CrossValidation.draw(train, 3, 0, "none")
        for fold in parts.folds:
            logits = (wrong_of_rare if right else wrong_of_rare[:, 1:])[fold[1]]
            assert (parts.score(fold, logits) == 1) is right


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Pictures of two classes in a.csv, b.csv, test.csv and two folds."""
    (tmp_path / "lists").mkdir()
    for number in range(30):
        cv2.imwrite(str(tmp_path / f"lists/{number}.png"), np.full((4, 4, 3), number, np.uint8))
    for name, numbers in (("a", range(20)), ("b", range(20, 25)), ("test", range(25, 30)), ("train_1", range(12)),
                          ("val_1", range(12, 20)), ("train_2", range(8, 20)), ("val_2", range(8))):
        write(tmp_path / f"lists/{name}.csv", *(f"{number}.png,{'cat' if number % 2 else 'dog'}" for number in numbers))
    return tmp_path / "lists"


def write(path: Path, *lines: str, header: str = "path,class") -> None:
    path.write_text("\n".join([header, *lines]) + "\n")


def csv(root: Path, **values: object) -> DatasetConfig:
    return DatasetConfig(root=(root,), data="csv", **values)  # type: ignore[arg-type]


def names(dataset: Dataset | None) -> set[str]:
    assert dataset is not None
    return {path.stem for path in dataset.paths}


def test_the_task_is_that_of_the_data_set(chosen: DatasetConfig, lists: Path):
    assert read_splits(chosen.checked(), seed=0).task is Task.MULTI_LABEL
    assert read_splits(csv(lists, train_split="a").checked(), seed=0).task is Task.SINGLE_LABEL


def test_a_single_label_split_is_carved_by_class(lists: Path):
    splits = read_splits(csv(lists, train_split="a", val_fraction=0.3).checked(), seed=0)
    assert splits.val is not None
    assert splits.val.labels.sum(axis=0).tolist() == [3, 3]
    assert names(splits.val) | names(splits.train) == {str(number) for number in range(20)}
    assert names(splits.eval) == {"25", "26", "27", "28", "29"}


def test_a_picture_that_is_listed_twice_stays_on_one_side_of_the_carving(lists: Path):
    once = [f"{number}.png,{'cat' if number % 2 else 'dog'}" for number in range(20)]
    write(lists / "twice.csv", *once, *once)
    splits = read_splits(csv(lists, train_split="twice", val_fraction=0.3).checked(), seed=0)
    assert names(splits.train).isdisjoint(names(splits.val))
    assert len(splits.train) == 28


def test_a_fold_trains_on_one_list_and_watches_the_other(lists: Path):
    splits = read_splits(csv(lists, fold=2).checked(), seed=0)
    assert names(splits.train) == {str(number) for number in range(8, 20)}
    assert names(splits.val) == {str(number) for number in range(8)}
    assert names(splits.eval) == {"25", "26", "27", "28", "29"}


def test_what_is_resolved_names_its_splits_and_stays_as_it_is(lists: Path, devkit: Path):
    for config, expected in ((csv(lists, fold=1), ("train_1", "test", "val_1")),
                             (DatasetConfig((devkit,)), ("trainval", "test", "auto")),
                             (csv(lists / "a.csv"), ("a", "none", "auto")),
                             (csv(lists, train_split="test"), ("test", "none", "auto")),
                             (csv(lists, train_split="a", eval_split="b"), ("a", "b", "auto"))):
        resolved = config.checked()
        assert (resolved.train_split, resolved.eval_split, resolved.val_split) == expected
        assert resolved.checked() == resolved


def test_a_recorded_fold_is_read_back_as_the_same(lists: Path, tmp_path: Path):
    config = TrainConfig(csv(lists, fold=2), NetworkConfig(weights="none")).checked()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(
        {"dataset": to_dict(config.dataset), "network": to_dict(config.network)}))
    assert PROGRAM.read_file(tmp_path / "config.yaml", "file").config(TrainConfig).checked().dataset == config.dataset


@pytest.mark.parametrize(("values", "found"), [
    ({"fold": 3}, r"`fold` 3: .*lists has the folds 1, 2; choose one of them"),
    ({"fold": 1, "train_split": "a"}, r"`fold` 1: takes train_1 and val_1, not `train_split` a"),
    ({"fold": 1, "val_split": "b"}, r"`fold` 1: takes train_1 and val_1, not `val_split` b"),
    ({"fold": 1, "data": "folder"}, r"`fold` 1: not for `data` folder; make lists with `voc-data split --folds 5`"),
    ({"train_split": "a", "val_split": "a"}, r"`val_split` a: 20 of its 20 pictures are in `train_split` a too"),
    ({"train_split": "a", "val_split": "linked"}, r"`val_split` linked: 1 of its 1 pictures are in `train_split` a"),
    ({"train_split": "a", "eval_split": "labels"}, r"`eval_split` labels: is multi-label, `train_split` a is single"),
    ({"train_split": "none"}, r"`train_split` none: there is nothing to train on"),
    ({"train_split": "one"}, r"`val_fraction` 0.15: .* single picture of the class 'cat'"),
])
def test_splits_that_cannot_be_are_one_sentence(lists: Path, values: dict[str, object], found: str):
    (lists / "link.png").symlink_to(lists / "3.png")
    write(lists / "linked.csv", "link.png,cat")
    write(lists / "labels.csv", "21.png,cat|dog", header="path,labels")
    write(lists / "one.csv", "1.png,cat", *(f"{number}.png,dog" for number in range(2, 20)))
    with pytest.raises(UsageError, match=found):
        read_splits(replace(csv(lists), **values).checked(), seed=0)  # type: ignore[arg-type]


def test_lists_without_folds_say_how_to_make_some(lists: Path):
    for file in lists.glob("*_?.csv"):
        file.unlink()
    with pytest.raises(UsageError, match=r"has no folds \(train_1.csv with val_1.csv\); make some with"):
        csv(lists, fold=1).checked()


def test_an_unknown_split_names_its_flag_and_those_that_exist(lists: Path):
    with pytest.raises(DataError, match=r"`eval_split` x: .*no split 'x'; the splits are: a, b, test, train_1"):
        read_splits(csv(lists, train_split="a", eval_split="x").checked(), seed=0)


def test_a_single_class_cannot_be_told_from_anything(lists: Path):
    for file in lists.glob("*.csv"):
        file.unlink()
    write(lists / "train.csv", "1.png,cat", "2.png,cat")
    with pytest.raises(UsageError, match="`train_split` train: has the class 'cat' alone, so there is nothing to"):
        read_splits(csv(lists).checked(), seed=0)


def test_different_lists_of_classes_are_refused(lists: Path):
    one, other = (read_splits(csv(lists, train_split="a", val_split="none", eval_split="none").checked(), 0).train
                  for _ in range(2))
    check_same_classes("`val_split` b", one, "`train_split` a", other)
    for classes, found in ((("cat", "emu"), "does not have the classes of `train_split` a, 'dog' is in one alone"),
                           (("dog", "cat"), "has the classes of `train_split` a in another order")):
        with pytest.raises(UsageError, match=f"`val_split` b: {found}"):
            check_same_classes("`val_split` b", replace(one, classes=classes), "`train_split` a", other)
