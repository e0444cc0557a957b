"""The images of a run: what it trains on, what it validates on, what it reports results on; and the parts of what it
trains on that are left out in turn, to choose settings by."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset, Draw, Task
from voc_cls.data.load import NONE, read_dataset
from voc_cls.data.stratify import AUTO
from voc_cls.errors import DataError, UsageError
from voc_cls.evaluation.calibration import LEAST_POSITIVES
from voc_cls.evaluation.tasks import score
from voc_cls.training.config import PART_SEED, UNKNOWN, DatasetConfig, fraction_of

Fold = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Numbers of the images to train on, and of those that are left out."""


@dataclass(frozen=True)
class Splits:
    train: Dataset
    val: Dataset | None = None
    eval: Dataset | None = None
    groups: str = ""
    """The groups of images that `val_split` auto kept together, for people."""

    @property
    def all(self) -> tuple[Dataset, ...]:
        return tuple(split for split in (self.train, self.val, self.eval) if split is not None)

    @property
    def pictures(self) -> tuple[Path, ...]:
        return tuple(path for split in self.all for path in split.paths)

    @property
    def task(self) -> Task:
        return self.train.task


@dataclass(frozen=True)
class CrossValidation:
    """Stratified parts of the images `train`, and the columns of the classes by which they are scored."""

    train: Dataset
    folds: Sequence[Fold]
    judged: Sequence[int]

    @classmethod
    def draw(cls, train: Dataset, folds: int, seed: int, group: str) -> CrossValidation:
        """Keeps images of a `group` together. UsageError for too few images."""
        return cls(train, train.together(group).folds(folds, seed), judged_classes(train, folds))

    def score(self, fold: Fold, logits: npt.NDArray[np.float32]) -> float:
        """Of the logits [N, classes] of what `fold` leaves out: mean AP; single-label: accuracy. 0 to 1."""
        part = self.train.subset(fold[1], self.train.name).only(self.judged)
        return score(part, logits[:, self.judged]).rank


def judged_classes(images: Dataset, parts: int = 1) -> Sequence[int]:
    """The columns of the classes that decide. Multi-label: those with LEAST_POSITIVES in each of `parts`, because one
    image that changes its rank moves the mean over rare ones by much; all, if there are no others."""
    common = [column for column, count in enumerate(images.positives.values()) if count >= LEAST_POSITIVES * parts]
    return common if common and not images.single_label else range(len(images.classes))


def read_splits(chosen: DatasetConfig, seed: int) -> Splits:
    """Reads the training, validation and evaluation images of what `DatasetConfig.checked` returned.

    `seed` draws the validation images where they are a part of the training split. UsageError where splits overlap, or
    their classes differ; DataError for a split that does not exist or cannot be read.
    """
    def read(parameter: str, split: str | None) -> Dataset | None:
        if split in (None, NONE):
            return None
        try:
            return read_dataset(chosen.data, chosen.root, str(split), chosen.difficult, chosen.classes)
        except DataError as error:
            raise DataError(f"`{parameter}` {split}: {error}") from error

    training = read("train_split", chosen.train_split)
    if training is None:
        raise UsageError("`train_split` none: there is nothing to train on; name a split")
    val_part, eval_part = chosen.val_part, fraction_of(chosen.eval_split)
    splits = Splits(training, read("val_split", chosen.val_split) if val_part is None else None,
                    read("eval_split", chosen.eval_split) if eval_part is None else None)
    check_splits(splits, f"`train_split` {chosen.train_split}", f"`val_split` {chosen.val_split}",
                 f"`eval_split` {chosen.eval_split}")
    if eval_part is not None:
        rest, drawn = training.split(eval_part, PART_SEED, group=chosen.group, parameter="eval_split")
        splits = replace(splits, train=replace(rest, name=training.name),
                         eval=replace(drawn, name=f"{training.name}, evaluation part"))
    if val_part is not None:
        name = "val_fraction" if chosen.val_split == AUTO else "val_split"
        rest, drawn = splits.train.split(val_part / (1 - (eval_part or 0)), seed, group=chosen.group, parameter=name)
        splits = replace(splits, train=rest, val=drawn)
    drawn_parts = (val_part, eval_part) != (None, None)
    return replace(splits, groups=training.grouping(chosen.group).text if drawn_parts else "")


def check_splits(splits: Splits, train: str = "`train`", val: str = "`val`", evaluated: str = "`eval`") -> None:
    """UsageError where splits share images, or their tasks or classes differ; the names are those of the parameters."""
    if splits.task is Task.SINGLE_LABEL and len(splits.train.classes) < 2:
        raise UsageError(f"{train}: has the class {splits.train.classes[0]!r} alone, so there is nothing to "
                         "distinguish; add pictures of another class")
    known = real_paths(splits.train)
    for name, split in ((val, splits.val), (evaluated, splits.eval)):
        if split is not None:
            check_same_classes(name, split, train, splits.train)
            shared = known & real_paths(split)
            if shared:
                raise UsageError(f"{name}: {len(shared):,} of its {len(split):,} pictures are in {train} too, so its "
                                 "numbers would mean nothing; choose splits apart")


def check_same_classes(name: str, split: Dataset, other_name: str, other: Dataset) -> None:
    """UsageError where two splits are of different tasks or have different classes."""
    if split.task is not other.task:
        raise UsageError(f"{name}: is {split.task.value}, {other_name} is {other.task.value}; choose splits of one "
                         "kind")
    only = sorted(set(split.classes) ^ set(other.classes))
    if only:
        raise UsageError(f"{name}: does not have the classes of {other_name}, {only[0]!r} is in one alone; "
                         "give both the same list of classes")
    if split.classes != other.classes:
        raise UsageError(f"{name}: has the classes of {other_name} in another order; give both the same list of "
                         "classes")


def real_paths(split: Dataset) -> set[str]:
    """Where the image files really are, behind links and `..`."""
    return {os.path.realpath(path) for path in split.paths}


def dataset_config(splits: Splits, seed: int) -> tuple[DatasetConfig, str]:
    """The settings that read the same splits again, and "", or settings with an unknown root, and the reason for it."""
    names = tuple(split.name if split is not None else NONE for split in (splits.train, splits.val, splits.eval))
    unknown = DatasetConfig((UNKNOWN,), train_split=names[0], val_split=names[1], eval_split=names[2],
                            difficult=splits.train.difficult)
    train = splits.train.source
    if train is None or any(split.source is None for split in splits.all):
        return unknown, "its data sets were made in Python and cannot be read again"
    places = {(split.source.kind, split.source.root, split.source.difficult, split.source.classes)
              for split in splits.all if split.source}
    if len(places) > 1:
        return unknown, "its data sets come from different places"
    val = splits.val.source if splits.val is not None else None
    evaluated = splits.eval.source if splits.eval is not None else None
    known = DatasetConfig(tuple(path.absolute() for path in train.root), train.kind, train.classes, train.split,
                          evaluated.split if evaluated else NONE, difficult=train.difficult)
    if evaluated is not None and evaluated.draws:
        return unknown, "it is evaluated on a part of a split"
    if not train.draws and not (val and val.draws):
        return replace(known, val_split=val.split if val else NONE), ""
    if val is not None and val.split == train.split and len(val.draws) == 1:
        fraction, group = val.draws[0].fraction, val.draws[0].group
        rest, part = (Draw(fraction, seed, taken, group) for taken in (False, True))
        if (train.draws, val.draws) == ((rest,), (part,)):
            return replace(known, val_split=AUTO, val_fraction=fraction, group=group), ""
    return unknown, (f"it trains on a part of a split; `train, val = dataset.split(fraction, seed={seed})`, with the "
                     "seed of the training, can be repeated")
