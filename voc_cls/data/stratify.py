"""Drawing lists from a data set: seeded, and so that every class goes to each by its share.

Single-label by scikit-learn's stratified splitters, multi-label by iterative stratification (Sechidis et al. 2011),
which sees to the rarest class first. Pictures that are the same stay together.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset, Task
from voc_cls.errors import UsageError

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """Which pictures belong together: `first`, one of each group, and the group of every picture."""

    first: Numbers
    of: Numbers

    @classmethod
    def by(cls, keys: Sequence[Hashable]) -> Groups:
        """Pictures with the same key are a group."""
        number: dict[Hashable, int] = {}
        first: list[int] = []
        for row, key in enumerate(keys):
            if key not in number:
                number[key] = len(first)
                first.append(row)
        return cls(np.array(first, np.int64), np.array([number[key] for key in keys], np.int64))

    def rows(self, groups: Numbers) -> Numbers:
        """All pictures of some groups, in their order."""
        rows: Numbers = np.flatnonzero(np.isin(self.of, groups))
        return rows


def carve(dataset: Dataset, fraction: float, seed: int, keys: Sequence[Hashable], flag: str) -> tuple[Numbers, Numbers]:
    """(rows that stay, rows that are taken): about `fraction` of every class is taken, both in the order of the list.

    keys: pictures with the same key stay together. UsageError, which begins with `flag` (such as "--val 0.1"), where a
    side would be empty or a class cannot be on both.
    """
    groups = Groups.by(keys)
    labels, pictures = dataset.labels[groups.first], len(groups.first)
    taken = round(pictures * fraction) if 0 < fraction < 1 else 0
    if not 0 < taken < pictures:
        raise UsageError(f"{flag}: takes {taken} of the {len(dataset):,} pictures of {dataset.name}; give "
                         "another fraction")
    if dataset.task is Task.SINGLE_LABEL:
        counts = _counts(dataset, labels)
        rarest = min(counts, key=lambda name: counts[name])
        if counts[rarest] < 2:
            raise UsageError(f"{flag}: {dataset.name} has a single picture of the class {rarest!r}, which "
                             "cannot be on both sides; add pictures, or take the class out")
        taken = math.ceil(pictures * fraction)  # as scikit-learn does
        fewer = min(taken, pictures - taken)
        if fewer < len(counts):
            raise UsageError(f"{flag}: leaves {fewer} of the pictures on one side, fewer than the "
                             f"{len(counts)} classes of {dataset.name}; give another fraction")
    splitter = _splitter(dataset.task, fraction, seed)
    staying, going = next(splitter.split(labels, _targets(dataset.task, labels)))
    return groups.rows(staying), groups.rows(going)


def folds(dataset: Dataset, number: int, seed: int, keys: Sequence[Hashable]) -> list[tuple[Numbers, Numbers]]:
    """(rows to train on, rows to validate on) of each of `number` folds, both in the order of the list.

    keys: pictures with the same key stay together. UsageError names a class of a single-label data set with fewer
    pictures than there are folds; a rare class among several on a picture is spread as far as it goes.
    """
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
    from sklearn.model_selection import StratifiedKFold

    groups = Groups.by(keys)
    labels = dataset.labels[groups.first]
    few = [name for name, positives in zip(dataset.classes, labels.sum(axis=0), strict=True) if positives < number]
    if few and dataset.task is Task.SINGLE_LABEL:
        positives = int(labels[:, dataset.classes.index(few[0])].sum())
        raise UsageError(f"--folds {number}: the class {few[0]!r} has {positives} pictures to share out, fewer than "
                         "folds; ask for fewer folds, add pictures, or take the class out")
    kind = StratifiedKFold if dataset.task is Task.SINGLE_LABEL else MultilabelStratifiedKFold
    drawn = kind(n_splits=number, shuffle=True, random_state=seed).split(labels, _targets(dataset.task, labels))
    return [(groups.rows(train), groups.rows(val)) for train, val in drawn]


def _splitter(task: Task, fraction: float, seed: int) -> Any:
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
    from sklearn.model_selection import StratifiedShuffleSplit

    kind = StratifiedShuffleSplit if task is Task.SINGLE_LABEL else MultilabelStratifiedShuffleSplit
    return kind(n_splits=1, test_size=fraction, random_state=seed)


def _targets(task: Task, labels: npt.NDArray[np.float32]) -> Numbers:
    """What the splitters stratify by: the number of the class, or all labels, of which they want two at least."""
    if task is Task.SINGLE_LABEL:
        return np.asarray(labels.argmax(axis=1), np.int64)
    several = labels if labels.shape[1] > 1 else np.hstack([labels, 1 - labels])
    return several.astype(np.int64)


def _counts(dataset: Dataset, labels: npt.NDArray[np.float32]) -> dict[str, int]:
    """Pictures of each class that has any."""
    return {name: int(count) for name, count in zip(dataset.classes, labels.sum(axis=0), strict=True) if count}
