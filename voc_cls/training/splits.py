"""The pictures of a run: what it trains on, what it watches, what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voc_cls.data.dataset import Dataset
from voc_cls.data.readers import read_dataset
from voc_cls.errors import DataError, UsageError
from voc_cls.training.config import DatasetConfig


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


def read_splits(chosen: DatasetConfig, seed: int) -> Splits:
    """Reads the training, validation and evaluation pictures; UsageError where they overlap.

    seed: draws the validation pictures of `--val-split auto`; the same seed draws the same ones.
    """
    def read(flag: str, split: str) -> Dataset | None:
        if split == "none":
            return None
        try:
            return read_dataset(chosen.data, chosen.root, split, chosen.difficult)
        except DataError as error:
            raise DataError(f"{flag} {split}: {error}") from error

    training = read("--train-split", chosen.train_split)
    if training is None:
        raise UsageError("--train-split none: there is nothing to train on; name a split")
    carved = chosen.val_split == "auto"
    validation = None if carved else read("--val-split", chosen.val_split)
    splits = Splits(training, validation, read("--eval-split", chosen.eval_split))
    for flag, name, split in (("--val-split", chosen.val_split, splits.val),
                              ("--eval-split", chosen.eval_split, splits.eval)):
        shared = set(training.paths) & set(split.paths) if split else set()
        if split and shared:
            raise UsageError(f"{flag} {name}: {len(shared):,} of its {len(split):,} pictures are in --train-split "
                             f"{chosen.train_split} too, so its numbers would mean nothing; choose splits apart")
    return Splits(*carve(training, chosen.val_fraction, seed), splits.eval) if carved else splits


def carve(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """(training part, validation part): every class is split by about `fraction` (iterative stratification, Sechidis
    et al. 2011), the pictures stay in the order of their list."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    pictures = round(len(dataset) * fraction) if 0 < fraction < 1 else 0
    if not 0 < pictures < len(dataset):
        raise UsageError(f"--val-fraction {fraction:g}: takes {pictures} of the {len(dataset):,} pictures of "
                         f"{dataset.name}; give another fraction, or --val-split none")
    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    train, val = next(splitter.split(dataset.labels, dataset.labels.astype(np.int64)))
    return (dataset.subset(np.sort(train), f"{dataset.name}, without its validation part"),
            dataset.subset(np.sort(val), f"{dataset.name}, validation part"))
