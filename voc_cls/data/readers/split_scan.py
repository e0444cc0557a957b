"""What a reader found in a split: the pictures that are in order, and a sentence for everything that is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.image_files import read_header
from voc_cls.errors import DataError
from voc_cls.image_header import ImageHeader


@dataclass(frozen=True)
class Scanned:
    """`dataset` has the pictures without a problem; `problems` name file and, in lists and annotations, line."""

    dataset: Dataset
    headers: tuple[ImageHeader, ...]
    """Of its pictures."""
    problems: tuple[str, ...] = ()

    def checked(self) -> Dataset:
        """The data set; DataError with the first problem, which also says how many more there are."""
        raise_first(self.problems)
        return self.dataset


def raise_first(problems: Sequence[str]) -> None:
    """DataError with the first of the problems, if there is any, and how many more there are."""
    if problems:
        more = len(problems) - 1
        raise DataError(problems[0] + (f" (and {more:,} more: `voc-data check` lists them all)" if more else ""))


@dataclass(frozen=True)
class Labelled:
    """A picture with the names of its classes, and of those for which it counts neither way."""

    path: Path
    classes: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    where: str = ""
    """What a problem of the picture begins with, such as "train.csv:3: "."""


def scanned(name: str, task: Task, classes: Sequence[str], pictures: Iterable[Labelled],
            problems: Iterable[str] = ()) -> Scanned:
    """The data set of `pictures`, whose headers are read; more `problems` for those that are no pictures."""
    found, good, headers = list(problems), [], []
    for picture in pictures:
        try:
            headers.append(read_header(picture.path))
            good.append(picture)
        except DataError as error:
            found.append(f"{picture.where}{error}")
    column = {label: number for number, label in enumerate(classes)}
    labels, ignored = np.zeros((len(good), len(column)), np.float32), np.zeros((len(good), len(column)), bool)
    for row, picture in enumerate(good):
        labels[row, [column[label] for label in picture.classes]] = 1
        ignored[row, [column[label] for label in picture.ignored]] = True
    dataset = Dataset(name, tuple(classes), tuple(picture.path for picture in good), labels, ignored, task=task)
    return Scanned(dataset, tuple(headers), tuple(found))
