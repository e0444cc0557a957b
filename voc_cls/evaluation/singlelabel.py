"""How often the most probable class is the right one: accuracy, per-class rates, and which classes are confused.

For pictures of exactly one class each. Per class and macro: scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.multilabel import json_number, top_k
from voc_cls.evaluation.probabilities import Floats, log_softmax

TOP_K = 5
"""Guesses that a picture has in the second accuracy, as in ImageNet's challenge; one fewer than the classes if these
are not more."""


@dataclass(frozen=True)
class ClassRates:
    """One class, 0-1: recall and F1 are NaN without pictures, precision is 0 where the class is never predicted."""

    name: str
    precision: float
    recall: float
    f1: float
    predicted: int
    pictures: int


@dataclass(frozen=True)
class Macro:
    """Means over the classes that have pictures, each as heavy as another; NaN where none has."""

    precision: float
    recall: float
    """Also called balanced accuracy."""
    f1: float

    def to_dict(self) -> dict[str, float | None]:
        """JSON-ready."""
        return {"precision": json_number(self.precision), "recall": json_number(self.recall),
                "f1": json_number(self.f1)}


@dataclass(frozen=True)
class TopK:
    """Share of the pictures whose class is among the `k` most probable ones, 0-1."""

    k: int
    accuracy: float


@dataclass(frozen=True)
class Confused:
    """Pictures of class `truth` that were taken for class `predicted`; `share` of the class's pictures, 0-1."""

    truth: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True)
class Confusion:
    """counts: int [classes, classes], rows for what is true, columns for what was predicted, in the order of labels."""

    labels: tuple[str, ...]
    counts: npt.NDArray[np.int64]

    @property
    def shares(self) -> Floats:
        """float64 [classes, classes]: of the row's pictures; 0 in a row without any."""
        shares: Floats = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        return shares

    def pairs(self, most: int | None = None) -> tuple[Confused, ...]:
        """The classes that are taken for others, the most frequent first; of equal ones in the order of labels."""
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:np.count_nonzero(wrong)][:most]
        rows, columns = np.unravel_index(order, wrong.shape)
        return tuple(Confused(int(row), int(column), int(wrong[row, column]), float(self.shares[row, column]))
                     for row, column in zip(rows, columns, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"labels": list(self.labels), "counts": self.counts.tolist()}


@dataclass(frozen=True)
class SinglelabelScores:
    """Accuracy 0-1 of the most probable class; `log_loss` in nats, the mean of `-log p` of what is true."""

    accuracy: float
    top_k: TopK | None
    """None for two classes: the second guess is always right."""
    log_loss: float
    macro: Macro
    classes: tuple[ClassRates, ...]
    confusion: Confusion


def truth_of(dataset: Dataset) -> npt.NDArray[np.intp]:
    """The column of each picture's class, [N]."""
    columns: npt.NDArray[np.intp] = dataset.labels.argmax(axis=1)
    return columns


def singlelabel_scores(dataset: Dataset, logits: Floats, only: Collection[str] = ()) -> SinglelabelScores:
    """Logits [N, classes] against the labels.

    only: the classes that `classes` and `macro` are about; all where it is empty. The rest is about all pictures.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    truth, predicted, columns = truth_of(dataset), logits.argmax(axis=1), np.arange(len(dataset.classes))
    rates = np.array(precision_recall_fscore_support(truth, predicted, labels=columns, zero_division=0)[:3])
    counts = confusion_matrix(truth, predicted, labels=columns)
    pictures = counts.sum(axis=1)
    rates[1:, pictures == 0] = np.nan
    wanted = [column for column in columns if not only or dataset.classes[column] in only]
    present = [column for column in wanted if pictures[column]]
    macro = rates[:, present].mean(axis=1) if present else np.full(3, np.nan)
    return SinglelabelScores(
        accuracy=accuracy(truth, predicted), top_k=_top_k(truth, logits), log_loss=log_loss(truth, logits),
        macro=Macro(*macro.tolist()),
        classes=tuple(ClassRates(dataset.classes[column], float(rates[0, column]), float(rates[1, column]),
                                 float(rates[2, column]), int(counts[:, column].sum()), int(pictures[column]))
                      for column in wanted),
        confusion=Confusion(dataset.classes, counts))


def accuracy(truth: npt.NDArray[np.intp], predicted: npt.NDArray[np.intp]) -> float:
    """Share of columns [N] that are equal, 0-1."""
    return float((truth == predicted).mean())


def log_loss(truth: npt.NDArray[np.intp], logits: Floats) -> float:
    """Mean of `-log p` of the true columns [N], nats: the softmax cross-entropy without smoothing or weights."""
    logarithms = log_softmax(np.asarray(logits, np.float64))
    return float(-logarithms[np.arange(len(truth)), truth].mean())


def guesses(classes: int) -> int | None:
    """How many guesses top-k has with so many classes; None where it says nothing that accuracy does not."""
    k = min(TOP_K, classes - 1)
    return k if k > 1 else None


def among(truth: npt.NDArray[np.intp], logits: Floats, k: int) -> npt.NDArray[np.bool_]:
    """bool [N]: whether a picture's class is among its k most probable ones; of equal ones the first in the list."""
    found: npt.NDArray[np.bool_] = top_k(logits, k)[np.arange(len(truth)), truth]
    return found


def _top_k(truth: npt.NDArray[np.intp], logits: Floats) -> TopK | None:
    k = guesses(logits.shape[1])
    return None if k is None else TopK(k, float(among(truth, logits, k).mean()))
