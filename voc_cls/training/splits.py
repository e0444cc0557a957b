"""The pictures of a run: what it trains on, what it watches, what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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

    def most_views(self, flip: bool) -> int:
        """How many pictures, mirror images counted, the largest of them has for a trunk."""
        return max(len(self.train) * (1 + flip), *(len(split) for split in (self.val, self.eval) if split), 0)


def read_splits(chosen: DatasetConfig) -> Splits:
    """Reads the training, validation and evaluation pictures; UsageError where they overlap."""
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
    splits = Splits(training, read("--val-split", chosen.val_split), read("--eval-split", chosen.eval_split))
    for flag, name, split in (("--val-split", chosen.val_split, splits.val),
                              ("--eval-split", chosen.eval_split, splits.eval)):
        shared = set(training.paths) & set(split.paths) if split else set()
        if split and shared:
            raise UsageError(f"{flag} {name}: {len(shared):,} of its {len(split):,} pictures are in --train-split "
                             f"{chosen.train_split} too, so its numbers would mean nothing; choose splits apart")
    return splits
