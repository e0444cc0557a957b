"""What every reader gives back: pictures with multi-hot labels, whatever the files on disk look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

IGNORED = -1.0
"""The target of an entry that is neither positive nor negative; the loss and every metric leave it out."""


class DifficultPolicy(StrEnum):
    """What a picture is, for a class of which it holds only `difficult` objects."""

    IGNORE = "ignore"
    """Neither positive nor negative: the VOC protocol (0 in ImageSets/Main/<class>_<split>.txt)."""
    POSITIVE = "positive"
    NEGATIVE = "negative"

    @property
    def participle(self) -> str:
        """How a table says it: "difficult: ignored"."""
        return {"ignore": "ignored", "positive": "positive", "negative": "negative"}[self.value]


class Task(StrEnum):
    """How the classes of a picture relate; the kind of data set decides."""

    MULTI_LABEL = "multi-label"
    """Every class by itself: any number of them are on a picture. Sigmoid."""
    SINGLE_LABEL = "single-label"
    """Every picture is of exactly one class. Softmax."""

    @property
    def activation(self) -> str:
        """What turns logits into probabilities: "sigmoid" or "softmax"."""
        return "sigmoid" if self is Task.MULTI_LABEL else "softmax"


@dataclass(frozen=True)
class Dataset:
    """One split of a data set, in the order of its list.

    labels: float32 [N, classes], 1 where the picture shows the class, else 0; exactly one 1 in a row of a single-label
    data set. ignored: bool [N, classes], True where the entry counts neither way (its label is then 0).
    """

    name: str
    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: npt.NDArray[np.float32]
    ignored: npt.NDArray[np.bool_]
    difficult: DifficultPolicy = DifficultPolicy.IGNORE
    task: Task = Task.MULTI_LABEL

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def targets(self) -> npt.NDArray[np.float32]:
        """float32 [N, classes]: 1 positive, 0 negative, IGNORED (-1) neither."""
        return np.where(self.ignored, np.float32(IGNORED), self.labels)

    def subset(self, rows: npt.NDArray[np.int64], name: str) -> Dataset:
        """The pictures with these numbers, in this order."""
        return replace(self, name=name, paths=tuple(self.paths[row] for row in rows), labels=self.labels[rows],
                       ignored=self.ignored[rows])

    def only(self, columns: Sequence[int]) -> Dataset:
        """The same pictures with these classes alone, in this order."""
        chosen = list(columns)
        return replace(self, classes=tuple(self.classes[column] for column in chosen), labels=self.labels[:, chosen],
                       ignored=self.ignored[:, chosen])
