"""One split of a data set: images with their labels, whatever the files on disk look like, and parts drawn from it.

Drawing is seeded and stratified: every class goes to each part by its share. Single-label by scikit-learn's splitters,
multi-label by iterative stratification (Sechidis et al. 2011), which starts with the rarest class.
"""

from __future__ import annotations

import html
import math
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from voc_cls.errors import UsageError

Numbers = npt.NDArray[np.int64]
DataKind = Literal["voc", "cifar10", "csv", "folder", "coco"]
IGNORED = -1.0
"""The target of an entry that is neither positive nor negative; the loss and every metric leave it out."""
REPR_CLASSES = 5
"""Classes that a short description counts, the most frequent ones."""


class DifficultPolicy(StrEnum):
    """What an image is for a class of which it shows only `difficult` objects."""

    IGNORE = "ignore"
    """Neither positive nor negative: the VOC protocol (0 in ImageSets/Main/<class>_<split>.txt)."""
    POSITIVE = "positive"
    NEGATIVE = "negative"

    @property
    def participle(self) -> str:
        """The word in a table: "difficult: ignored"."""
        return {"ignore": "ignored", "positive": "positive", "negative": "negative"}[self.value]


class Task(StrEnum):
    """How the classes of an image relate; the kind of data set decides."""

    MULTI_LABEL = "multi-label"
    """An image shows any number of the classes. Sigmoid."""
    SINGLE_LABEL = "single-label"
    """An image belongs to exactly one class. Softmax."""

    @property
    def activation(self) -> str:
        """What turns logits into probabilities: "sigmoid" or "softmax"."""
        return "sigmoid" if self is Task.MULTI_LABEL else "softmax"


@dataclass(frozen=True)
class Draw:
    """One random division of a split: `taken` is True for the part that was drawn, False for the rest."""

    fraction: float
    seed: int
    taken: bool


@dataclass(frozen=True)
class Source:
    """Where a split was read from; with it the same images can be read again."""

    kind: DataKind
    root: tuple[Path, ...]
    split: str
    difficult: DifficultPolicy = DifficultPolicy.IGNORE
    draws: tuple[Draw, ...] = ()
    """The calls of `Dataset.split` that led to this part, the first one first."""
    classes: tuple[str, ...] = ()
    """Those that were chosen; none: all."""


@dataclass(frozen=True, repr=False)
class Dataset:
    """One split of a data set, in the order of its list.

    labels: float32 [N, classes], 1 where the image shows the class, else 0; exactly one 1 in a row of a single-label
    data set. ignored: bool [N, classes], True where the entry counts neither way (its label is then 0). source: None
    for a selection that cannot be read again from disk. warnings: sentences about what was read, for people.
    """

    name: str
    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: npt.NDArray[np.float32]
    ignored: npt.NDArray[np.bool_]
    difficult: DifficultPolicy = DifficultPolicy.IGNORE
    task: Task = Task.MULTI_LABEL
    source: Source | None = None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def targets(self) -> npt.NDArray[np.float32]:
        """float32 [N, classes]: 1 positive, 0 negative, IGNORED (-1) neither."""
        return np.where(self.ignored, np.float32(IGNORED), self.labels)

    @property
    def single_label(self) -> bool:
        """Whether an image belongs to exactly one class."""
        return self.task is Task.SINGLE_LABEL

    @property
    def positives(self) -> dict[str, int]:
        """Class → number of images that show it."""
        return dict(zip(self.classes, self.labels.sum(axis=0).astype(int).tolist(), strict=True))

    def split(self, fraction: float, seed: int = 0, *, parameter: str = "fraction") -> tuple[Dataset, Dataset]:
        """Draws a part of the images, such as one to validate on; returns (the rest, the part).

        Every class is divided alike (stratified), both parts keep the order of the list, and a file that is listed
        twice stays in one part. `voc-train --val-split auto` draws the same images with the same seed.

        Args:
            fraction: share of the images to draw, between 0 and 1.
            seed: the same seed draws the same images, 0 to 2**32 - 1.
            parameter: the name under which an error mentions the fraction.

        Raises:
            UsageError: a part would be empty, or a class is too small to be in both.
        """
        keys = [os.path.realpath(path) for path in self.paths]
        rest, drawn = draw_part(self, fraction, seed, keys, f"`{parameter}` {fraction:g}")
        return (self._part(rest, f"{self.name}, without its validation part", Draw(fraction, seed, taken=False)),
                self._part(drawn, f"{self.name}, validation part", Draw(fraction, seed, taken=True)))

    def _part(self, rows: npt.NDArray[np.int64], name: str, draw: Draw) -> Dataset:
        source = self.source and replace(self.source, draws=(*self.source.draws, draw))
        return replace(self.subset(rows, name), source=source)

    def subset(self, rows: npt.NDArray[np.int64], name: str) -> Dataset:
        """The images with these numbers, in this order."""
        return replace(self, name=name, paths=tuple(self.paths[row] for row in rows), labels=self.labels[rows],
                       ignored=self.ignored[rows], source=None)

    def only(self, columns: Sequence[int]) -> Dataset:
        """The same images with these classes alone, in this order."""
        chosen = list(columns)
        return replace(self, classes=tuple(self.classes[column] for column in chosen), labels=self.labels[:, chosen],
                       ignored=self.ignored[:, chosen], source=None)

    def to_records(self) -> list[dict[str, Any]]:
        """One dictionary an image, for `pandas.DataFrame(dataset.to_records())`.

        Keys: `path`, and `label` (a class), or in a multi-label data set `labels` and `ignored` (lists of classes).
        """
        def names(row: npt.NDArray[Any]) -> list[str]:
            return [self.classes[column] for column in np.flatnonzero(row)]

        if self.single_label:
            return [{"path": str(path), "label": self.classes[column]}
                    for path, column in zip(self.paths, self.labels.argmax(axis=1).tolist(), strict=True)]
        return [{"path": str(path), "labels": names(labels), "ignored": names(ignored)}
                for path, labels, ignored in zip(self.paths, self.labels, self.ignored, strict=True)]

    def __repr__(self) -> str:
        counts = sorted(self.positives.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{name} {count:,}" for name, count in counts[:REPR_CLASSES])
        more = ", …" if len(counts) > REPR_CLASSES else ""
        return (f"Dataset({self.name!r}: {len(self):,} images, {self.task.value}, {len(self.classes):,} classes: "
                f"{shown}{more})")

    def _repr_html_(self) -> str:
        """What Jupyter shows: a table of the classes."""
        ignored = self.ignored.sum(axis=0).tolist()
        columns = ("class", "images", "ignored") if any(ignored) else ("class", "images")
        rows = [(name, f"{count:,}", f"{unknown:,}")[:len(columns)]
                for (name, count), unknown in zip(self.positives.items(), ignored, strict=True)]
        return html_table(f"{self.name}: {len(self):,} images, {self.task.value}", columns, rows)


def html_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain HTML table for notebooks, its texts escaped."""
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return (f"<table><caption>{html.escape(caption)}</caption><thead>{line(columns, 'th')}</thead>"
            f"<tbody>{body}</tbody></table>")


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


def draw_part(images: Dataset, fraction: float, seed: int, keys: Sequence[Hashable], what: str
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
    from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

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
    if not len(drawn) or not len(staying):  # too few images for so many classes: any draw is as good
        staying, drawn = next(ShuffleSplit(n_splits=1, test_size=taken, random_state=seed).split(labels))
    return groups.rows(staying), groups.rows(drawn)


def draw_folds(images: Dataset, number: int, seed: int, keys: Sequence[Hashable]
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
