"""The pictures of a run: what it trains on, what it watches, what it reports."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.load import NONE, read_dataset
from voc_cls.errors import DataError, UsageError
from voc_cls.training.config import AUTO, DatasetConfig


@dataclass(frozen=True)
class Splits:
    """The pictures of a run; `val` and `eval` are None where none was asked for."""

    train: Dataset
    val: Dataset | None
    eval: Dataset | None

    @property
    def pictures(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(path for split in (self.train, self.val, self.eval) if split for path in split.paths)

    @property
    def task(self) -> Task:
        """That of all of them."""
        return self.train.task


def read_splits(chosen: DatasetConfig, seed: int) -> Splits:
    """Reads the training, validation and evaluation pictures; UsageError where they overlap, or their classes differ.

    seed: draws the validation pictures of `--val-split auto`; the same seed draws the same ones.
    """
    chosen = chosen.resolved()

    def read(flag: str, split: str | None) -> Dataset | None:
        if split in (None, NONE):
            return None
        try:
            return read_dataset(chosen.data, chosen.root, str(split), chosen.difficult)
        except DataError as error:
            raise DataError(f"{flag} {split}: {error}") from error

    training = read("--train-split", chosen.train_split)
    if training is None:
        raise UsageError("--train-split none: there is nothing to train on; name a split")
    if training.task is Task.SINGLE_LABEL and len(training.classes) < 2:
        raise UsageError(f"--train-split {chosen.train_split}: has the class {training.classes[0]!r} alone, so there "
                         "is nothing to tell apart; add pictures of another class")
    carved = chosen.val_split == AUTO
    validation = None if carved else read("--val-split", chosen.val_split)
    splits = Splits(training, validation, read("--eval-split", chosen.eval_split))
    for flag, name, split in (("--val-split", chosen.val_split, splits.val),
                              ("--eval-split", chosen.eval_split, splits.eval)):
        if split:
            check_same_classes(f"{flag} {name}", split, f"--train-split {chosen.train_split}", training)
            check_apart(f"{flag} {name}", split, f"--train-split {chosen.train_split}", training)
    if not carved:
        return splits
    return Splits(*training.split(chosen.val_fraction, seed, parameter="val_fraction"), splits.eval)


def check_same_classes(flag: str, split: Dataset, other_flag: str, other: Dataset) -> None:
    """UsageError where two splits are of different tasks or have different classes."""
    if split.task is not other.task:
        raise UsageError(f"{flag}: is {split.task.value}, {other_flag} is {other.task.value}; choose splits of one "
                         "kind")
    only = sorted(set(split.classes) ^ set(other.classes))
    if only:
        raise UsageError(f"{flag}: does not have the classes of {other_flag}, {only[0]!r} is in one alone; "
                         "give both the same list of classes")
    if split.classes != other.classes:
        raise UsageError(f"{flag}: has the classes of {other_flag} in another order; give both the same list of "
                         "classes")


def check_apart(flag: str, split: Dataset, other_flag: str, other: Dataset) -> None:
    """UsageError where two splits share pictures, under whatever paths."""
    shared = set(real_paths(other.paths)) & set(real_paths(split.paths))
    if shared:
        raise UsageError(f"{flag}: {len(shared):,} of its {len(split):,} pictures are in {other_flag} too, so its "
                         "numbers would mean nothing; choose splits apart")


def real_paths(paths: Iterable[Path]) -> list[str]:
    """Where the files really are, behind links and `..`."""
    return [os.path.realpath(path) for path in paths]
