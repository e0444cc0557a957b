"""Metrics of single-label predictions: accuracy, precision, recall and F1 by class, and the confusion matrix.

The macro means are scikit-learn's, over the classes that have pictures.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.bootstrap import RESAMPLES, Intervals, draw, intervals_of
from voc_cls.evaluation.multilabel import ClassRates, class_rates, indicators, rates_by_class
from voc_cls.evaluation.predictions import Bools, Floats, defined_mean, log_loss, top_k

TOP_K = 5
"""Of the top-k accuracy, as in ImageNet's challenge; one fewer than the classes if there are no more than 5."""


@dataclass(frozen=True)
class Macro:
    """Unweighted means over the classes that have pictures; NaN where none has."""

    precision: float
    recall: float
    """Also called balanced accuracy."""
    f1: float


@dataclass(frozen=True)
class TopK:
    """Share of the pictures whose class is among the `k` most probable ones, 0-1."""

    k: int
    accuracy: float

    @property
    def name(self) -> str:
        """Key of the metric, such as top_5."""
        return f"top_{self.k}"


@dataclass(frozen=True)
class ConfusedPair:
    """Pictures of class `truth` that were predicted as class `predicted` (columns); `share` of the class's pictures."""

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

    def pairs(self, most: int | None = None) -> tuple[ConfusedPair, ...]:
        """Classes that were predicted as others, the most frequent first; of equal ones in the order of labels."""
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:np.count_nonzero(wrong)][:most]
        rows, columns = np.unravel_index(order, wrong.shape)
        return tuple(ConfusedPair(int(row), int(column), int(wrong[row, column]), float(self.shares[row, column]))
                     for row, column in zip(rows, columns, strict=True))


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


def singlelabel_scores(dataset: Dataset, logits: Floats, classes: Collection[str] = ()) -> SinglelabelScores:
    """Metrics of the most probable class of each picture, by logits [N, classes].

    classes: those that `classes` and `macro` are about; empty: all. The other numbers are about all pictures.
    """
    from sklearn.metrics import confusion_matrix

    truth, predicted = dataset.labels.argmax(axis=1), logits.argmax(axis=1)
    counts = confusion_matrix(truth, predicted, labels=np.arange(len(dataset.classes)))
    rates = tuple(of_class for of_class in rates_by_class(dataset.classes, counts.diagonal(), counts.sum(axis=0),
                                                          counts.sum(axis=1))
                  if not classes or of_class.name in classes)
    present = [(of_class.precision, of_class.recall, of_class.f1) for of_class in rates if of_class.positives]
    k = top_k_of(len(dataset.classes))
    return SinglelabelScores(
        accuracy=float((truth == predicted).mean()),
        top_k=None if k is None else TopK(k, float(in_top_k(truth, logits, k).mean())),
        log_loss=log_loss(truth, logits),
        macro=Macro(*(np.mean(present, axis=0).tolist() if present else [float("nan")] * 3)),
        classes=rates,
        confusion=Confusion(dataset.classes, counts))


def singlelabel_intervals(dataset: Dataset, logits: Floats, columns: Sequence[int], resamples: int = RESAMPLES
                          ) -> Intervals:
    """Confidence intervals of accuracy and, where it is defined, top_<k>; and of macro_f1, map and map_11pt over the
    classes in `columns`, by logits [N, classes]."""
    drawn, truth = draw(len(dataset), resamples), dataset.labels.argmax(axis=1)
    predicted, chosen = logits.argmax(axis=1), dataset.only(columns)
    decided = predicted[:, None] == np.asarray(columns)
    _, _, f1 = class_rates(*(drawn @ indicator for indicator in indicators(chosen, decided)))
    metrics = {"accuracy": drawn @ (predicted == truth) / len(dataset), "macro_f1": defined_mean(f1)}
    if k := top_k_of(len(dataset.classes)):
        metrics[f"top_{k}"] = drawn @ in_top_k(truth, logits, k) / len(dataset)
    return intervals_of(chosen, log_softmax(logits, axis=-1)[:, list(columns)], drawn, metrics)


def top_k_of(classes: int) -> int | None:
    """The k of top-k accuracy for so many classes; None where it would be accuracy itself."""
    k = min(TOP_K, classes - 1)
    return k if k > 1 else None


def in_top_k(truth: npt.NDArray[np.intp], logits: Floats, k: int) -> Bools:
    """bool [N]: whether a picture's class is among its k most probable ones; of equal ones the first in the list."""
    found: Bools = top_k(logits, k)[np.arange(len(truth)), truth]
    return found
