"""Stratified drawing: seeded, and so that every class goes to each part by its share.

Single-label by scikit-learn's stratified splitters, multi-label by iterative stratification (Sechidis et al. 2011),
which starts with the rarest class. Images with the same key stay together.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from voc_cls.errors import UsageError

Numbers = npt.NDArray[np.int64]


class LabelledImages(Protocol):
    """What is drawn from; `Dataset` is one."""

    @property
    def name(self) -> str:
        """For errors."""

    @property
    def classes(self) -> tuple[str, ...]:
        """One for each column of `labels`."""

    @property
    def labels(self) -> npt.NDArray[np.float32]:
        """[N, classes], 0 or 1."""

    @property
    def single_label(self) -> bool:
        """Whether each row has exactly one 1."""


@dataclass(frozen=True)
class Groups:
    """Which images belong together: `first`, one of each group, and the group of every image."""

    first: Numbers
    of: Numbers

    @classmethod
    def by(cls, keys: Sequence[Hashable]) -> Groups:
        """Images with the same key are a group."""
        number = {key: group for group, key in enumerate(dict.fromkeys(keys))}
        of = np.array([number[key] for key in keys], np.int64)
        return cls(np.unique(of, return_index=True)[1], of)

    def rows(self, groups: Numbers) -> Numbers:
        """All images of some groups, in their order."""
        rows: Numbers = np.flatnonzero(np.isin(self.of, groups))
        return rows


def draw_part(images: LabelledImages, fraction: float, seed: int, keys: Sequence[Hashable], what: str
              ) -> tuple[Numbers, Numbers]:
    """Returns (rows that stay, rows that are drawn), both in the order of the list.

    Args:
        images: their labels decide how they are divided.
        fraction: share of every class to draw, between 0 and 1.
        seed: the same seed draws the same rows.
        keys: one for each image; images with the same key stay together.
        what: the beginning of an error, such as "`val` 0.1".

    Raises:
        UsageError: a side would be empty, or a class cannot be on both.
    """
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
    from sklearn.model_selection import StratifiedShuffleSplit

    groups = Groups.by(keys)
    labels, count = images.labels[groups.first], len(groups.first)
    taken = round(count * fraction) if 0 < fraction < 1 else 0
    if not 0 < taken < count:
        raise UsageError(f"{what}: takes {taken} of the {len(images.labels):,} pictures of {images.name}; give another "
                         "fraction")
    if images.single_label:
        counts = {name: number for name, number in zip(images.classes, labels.sum(axis=0), strict=True) if number}
        single = [name for name, number in counts.items() if number == 1]
        if single:
            raise UsageError(f"{what}: {images.name} has a single picture of the class {single[0]!r}, which cannot be "
                             "on both sides; add pictures, or remove the class")
        taken = math.ceil(count * fraction)  # as scikit-learn does
        fewer = min(taken, count - taken)
        if fewer < len(counts):
            raise UsageError(f"{what}: leaves {fewer} of the pictures on one side, fewer than the {len(counts)} "
                             f"classes of {images.name}; give another fraction")
    kind = StratifiedShuffleSplit if images.single_label else MultilabelStratifiedShuffleSplit
    splitter = kind(n_splits=1, test_size=fraction, random_state=seed)
    staying, drawn = next(splitter.split(labels, _targets(images.single_label, labels)))
    return groups.rows(staying), groups.rows(drawn)


def draw_folds(images: LabelledImages, number: int, seed: int, keys: Sequence[Hashable]
               ) -> list[tuple[Numbers, Numbers]]:
    """(rows to train on, rows to validate on) of each of `number` folds, both in the order of the list.

    Args:
        images: their labels decide how they are divided.
        number: of folds, 2 or more.
        seed: the same seed draws the same folds.
        keys: one for each image; images with the same key stay together.

    Raises:
        UsageError: a class of a single-label data set has fewer images than there are folds. (A rare class of a
            multi-label data set is spread as far as it goes.)
    """
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
    from sklearn.model_selection import StratifiedKFold

    groups = Groups.by(keys)
    labels = images.labels[groups.first]
    few = [name for name, positives in zip(images.classes, labels.sum(axis=0), strict=True) if positives < number]
    if few and images.single_label:
        positives = int(labels[:, images.classes.index(few[0])].sum())
        raise UsageError(f"`folds` {number}: the class {few[0]!r} has {positives} pictures, fewer than there are "
                         "folds; choose fewer folds, add pictures, or remove the class")
    kind = StratifiedKFold if images.single_label else MultilabelStratifiedKFold
    drawn = kind(n_splits=number, shuffle=True, random_state=seed).split(labels, _targets(images.single_label, labels))
    return [(groups.rows(train), groups.rows(val)) for train, val in drawn]


def _targets(single_label: bool, labels: npt.NDArray[np.float32]) -> Numbers:
    """What the splitters stratify by: the number of the class, or all labels, of which they need at least two."""
    if single_label:
        return np.asarray(labels.argmax(axis=1), np.int64)
    columns = labels if labels.shape[1] > 1 else np.hstack([labels, 1 - labels])
    return columns.astype(np.int64)
