"""One split of a data set: images with their labels, whatever the files on disk look like, and parts drawn from it.

Drawing is seeded and stratified, and keeps groups of images together (data/stratify.py).
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from voc_cls.data.stratify import AUTO, Grouping, Stratified, connected, group_images

DataKind = Literal["voc", "cifar10", "csv", "folder", "coco", "label-studio"]
IGNORED = -1.0
"""The target of an entry that is neither positive nor negative; the loss and every metric leave it out."""
REPR_CLASSES = 5
"""Classes that a short description counts, the most frequent ones."""


@dataclass(frozen=True)
class DataConfig:
    """Which data set: the settings of every command that reads one."""

    root: tuple[Path, ...]
    """Path of the data set. voc: the folder of one year, such as VOCdevkit/VOC2007, VOCdevkit with all its years,
    several paths as one data set (--root VOC2007 --root VOC2012), or a folder of pictures with VOC annotations (.xml)
    by any tool. cifar10: cifar-10-batches-py or the .tar.gz. csv: the folder of train.csv and so on, or one CSV file.
    folder: the folder that contains a folder for each class, or for each split. coco: the folder above
    annotations/instances_*.json or train/_annotations.coco.json, or one such file. label-studio: the export (.json), or
    its folder."""
    data: DataKind | None = None
    """Kind of data set. Default: recognised by its files. csv: rows of path,class (single-label), of path,labels
    (multi-label, such as cat|dog), or of a path and a 0 or 1 for each class (multi-label). folder: the class is the
    name of the folder; without class folders, the part of the file name before the first dot (cat.0.jpg). coco: the
    categories of a picture's annotations (multi-label). label-studio: the choices and regions of a picture's
    annotations (multi-label; single-label where the labelling configuration beside the export has a single choice)."""
    classes: tuple[str, ...] = ()
    """Classes to use, in the order of the network's outputs, such as cat dog. Other classes are ignored; in a
    single-label data set their pictures are left out. Default: all; for voc those of classes.txt or labelmap.txt in
    --root, else the 20 of PASCAL VOC where the annotations are VOC's, else all that occur."""


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
    group: str = AUTO


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
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The further columns of a CSV, by name, a cell for each image; `group` may name one."""

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

    def split(self, fraction: float, seed: int = 0, *, group: str = AUTO, parameter: str = "fraction"
              ) -> tuple[Dataset, Dataset]:
        """Draws a part of the images, such as one to validate on; returns (the rest, the part).

        Every class is divided alike (stratified), both parts keep the order of the list, and a file that is listed
        twice stays in one part. `voc-train --val-split auto` draws the same images with the same seed.

        Args:
            fraction: share of the images to draw, between 0 and 1.
            seed: the same seed draws the same images, 0 to 2**32 - 1.
            group: images that stay together: a column of the CSV, or a regular expression with a capture group, which
                is the same in their file names. auto: Roboflow's variants of an image; none: every image alone.
            parameter: the name under which an error mentions the fraction.

        Raises:
            UsageError: a part cannot be near its fraction, or a class is too small to be in both.
        """
        rest, drawn = self.together(group).part(fraction, seed, f"`{parameter}` {fraction:g}")
        names = f"{self.name}, without its validation part", f"{self.name}, validation part"
        return (self._part(rest, names[0], Draw(fraction, seed, taken=False, group=group)),
                self._part(drawn, names[1], Draw(fraction, seed, taken=True, group=group)))

    def grouping(self, group: str = AUTO) -> Grouping:
        """Which images belong together; `group` as for `split`."""
        return group_images(group, self.paths, self.columns)

    def together(self, group: str = AUTO) -> Stratified:
        """The images to be divided; those of a `group`, as for `split`, and a file listed twice stay together."""
        return self.stratified(self.grouping(group), [os.path.realpath(path) for path in self.paths])

    def stratified(self, grouping: Grouping, copies: Sequence[str]) -> Stratified:
        """The images to be divided; those of a group, and those with equal `copies`, stay together."""
        return Stratified(self.name, self.classes, self.labels, self.single_label, connected(grouping.keys, copies))

    def _part(self, rows: npt.NDArray[np.int64], name: str, draw: Draw) -> Dataset:
        source = self.source and replace(self.source, draws=(*self.source.draws, draw))
        return replace(self.subset(rows, name), source=source)

    def subset(self, rows: npt.NDArray[np.int64], name: str) -> Dataset:
        """The images with these numbers, in this order."""
        return replace(self, name=name, paths=tuple(self.paths[row] for row in rows), labels=self.labels[rows],
                       ignored=self.ignored[rows], source=None,
                       columns={column: tuple(cells[row] for row in rows) for column, cells in self.columns.items()})

    def only(self, columns: Sequence[int]) -> Dataset:
        """The same images with these classes alone, in this order."""
        chosen = list(columns)
        return replace(self, classes=tuple(self.classes[column] for column in chosen), labels=self.labels[:, chosen],
                       ignored=self.ignored[:, chosen], source=None)

    def named(self, marks: npt.NDArray[Any]) -> list[str]:
        """The names of the classes that are not 0 in a row such as labels[0]."""
        return [self.classes[column] for column in np.flatnonzero(marks)]

    def to_records(self) -> list[dict[str, Any]]:
        """One dictionary an image, for `pandas.DataFrame(dataset.to_records())`.

        Keys: `path`, and `label` (a class), or in a multi-label data set `labels` and `ignored` (lists of classes).
        """
        if self.single_label:
            return [{"path": str(path), "label": self.classes[column]}
                    for path, column in zip(self.paths, self.labels.argmax(axis=1).tolist(), strict=True)]
        return [{"path": str(path), "labels": self.named(labels), "ignored": self.named(ignored)}
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
