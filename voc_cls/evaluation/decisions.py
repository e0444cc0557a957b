"""What decisions are worth: precision, recall and F1 by class, and the numbers of either task.

Multi-label: averages over classes (CP, CR, CF1) and pooled numbers (OP, OR, OF1). The six numbers of the multi-label
literature since Wang et al. 2016 (CNN-RNN, arXiv:1604.04573), with CF1 the harmonic mean of CP and CR, as ML-GCN
computes it (Chen et al. 2019, arXiv:1904.03582). scikit-learn's macro F1 is another number, the mean of the classes'
F1. Ignored entries are left out. Rates are computed from counts, so that all resamples of a bootstrap go through the
same formulas at once.

Single-label: accuracy, the confusion matrix, and macro means, which are scikit-learn's, over the classes that have
pictures.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.bootstrap import RESAMPLES, Intervals, draw, intervals_of
from voc_cls.evaluation.predictions import Bools, Floats, defined_mean, log_loss, top_k

TOP_K = 3
"""Labels that each picture gets in the literature's top-k numbers (Wang et al. 2016)."""
MOST_GUESSES = 5
"""Of the top-k accuracy, as in ImageNet's challenge; one fewer than the classes if there are no more than 5."""


@dataclass(frozen=True)
class ClassRates:
    """One class, 0-1: recall and F1 are NaN without positives, precision is 0 if the class is never predicted."""

    name: str
    precision: float
    recall: float
    f1: float
    predicted: int
    positives: int


@dataclass(frozen=True)
class Overall:
    """The six numbers, each 0-1 and NaN where no class has positives."""

    cp: float
    """Mean of the precisions of the classes that have positives; 0 for a class that is never predicted."""
    cr: float
    """Mean of their recalls."""
    cf1: float
    """Harmonic mean of cp and cr."""
    op: float
    """Share of all the predicted labels that are true."""
    or_: float
    """Share of all the true labels that are predicted."""
    of1: float
    """Harmonic mean of op and or_."""

    def to_dict(self) -> dict[str, float]:
        """Plain values under the literature's names in lower case; NaN where a number is not defined."""
        return {"cp": self.cp, "cr": self.cr, "cf1": self.cf1, "op": self.op, "or": self.or_, "of1": self.of1}


@dataclass(frozen=True)
class MultilabelScores:
    """Decisions by thresholds, and those that give every picture its TOP_K most probable labels."""

    overall: Overall
    top_k: Overall | None
    """None where there are no more than TOP_K classes: every picture would get all of them."""
    classes: tuple[ClassRates, ...]


def class_rates(right: Floats, predicted: Floats, positives: Floats) -> tuple[Floats, Floats, Floats]:
    """(precision, recall, F1) from counts [..., classes]: labels predicted and true, predicted, true."""
    precision = _ratio(right, predicted)
    recall = np.where(positives > 0, _ratio(right, positives), np.nan)
    return precision, recall, harmonic(precision, recall)


def overall_rates(right: Floats, predicted: Floats, positives: Floats) -> tuple[Floats, ...]:
    """The six numbers of `Overall`, each [...], from counts [..., classes] as for `class_rates`."""
    present = positives > 0
    precision, recall, _ = class_rates(right, predicted, positives)
    cp, cr = defined_mean(np.where(present, precision, np.nan)), defined_mean(recall)
    op, or_, of1 = class_rates(right.sum(-1), predicted.sum(-1), positives.sum(-1))
    return cp, cr, harmonic(cp, cr), np.where(present.any(-1), op, np.nan), or_, of1


def harmonic(precision: Floats, recall: Floats) -> Floats:
    """F1 of arrays of any shape: the harmonic mean, 0 where both are 0, NaN where either is."""
    return _ratio(2 * precision * recall, precision + recall)


def multilabel_scores(dataset: Dataset, probabilities: Floats, thresholds: Floats) -> MultilabelScores:
    """Probabilities [N, classes] against the labels, with thresholds [classes] that are probabilities too."""
    counts = _counts(dataset, probabilities >= thresholds)
    best = None if len(dataset.classes) <= TOP_K else _overall(*_counts(dataset, top_k(probabilities, TOP_K)))
    return MultilabelScores(_overall(*counts), best, rates_by_class(dataset.classes, *counts))


def rates_by_class(names: Sequence[str], right: Floats, predicted: Floats, positives: Floats
                   ) -> tuple[ClassRates, ...]:
    """`class_rates` of counts [classes], by name."""
    rows = zip(names, *class_rates(right, predicted, positives), predicted, positives, strict=True)
    return tuple(ClassRates(name, float(precision), float(recall), float(f1), int(found), int(true))
                 for name, precision, recall, f1, found, true in rows)


def indicators(dataset: Dataset, decided: Bools) -> tuple[Floats, Floats, Floats]:
    """Each float64 [N, classes], 0 or 1, 0 for ignored entries: predicted and true, predicted, true."""
    true = dataset.labels == 1  # never of an ignored entry
    predicted = decided & ~dataset.ignored
    return (true & predicted).astype(float), predicted.astype(float), true.astype(float)


def multilabel_intervals(dataset: Dataset, scores: Floats, decided: Bools, resamples: int = RESAMPLES) -> Intervals:
    """Confidence intervals of map and map_11pt, by `scores` [N, classes], and of cf1 and of1, by the predicted labels,
    bool [N, classes]."""
    drawn = draw(len(dataset), resamples)
    _, _, cf1, _, _, of1 = overall_rates(*(drawn @ indicator for indicator in indicators(dataset, decided)))
    return intervals_of(dataset, scores, drawn, {"cf1": cf1, "of1": of1})


def _counts(dataset: Dataset, decided: Bools) -> tuple[Floats, Floats, Floats]:
    right, predicted, positives = indicators(dataset, decided)
    return right.sum(0), predicted.sum(0), positives.sum(0)


def _overall(*counts: Floats) -> Overall:
    return Overall(*map(float, overall_rates(*counts)))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """0 where both are 0: nothing predicted, nothing right."""
    return np.divide(part, whole, out=np.where(np.isnan(whole), np.nan, 0.0), where=whole > 0)


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
    return SinglelabelScores(
        accuracy=float((truth == predicted).mean()),
        top_k=next((TopK(k, float(hits.mean())) for k, hits in top_k_hits(truth, logits)), None),
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
    metrics |= {f"top_{k}": drawn @ hits / len(dataset) for k, hits in top_k_hits(truth, logits)}
    return intervals_of(chosen, log_softmax(logits, axis=-1)[:, list(columns)], drawn, metrics)


def top_k_hits(truth: npt.NDArray[np.intp], logits: Floats) -> list[tuple[int, Bools]]:
    """The k of top-k accuracy, and bool [N]: whether a picture's class is among its k most probable ones, of equal ones
    the first in the list; nothing for two classes, where it would be accuracy itself."""
    k = min(MOST_GUESSES, logits.shape[1] - 1)
    return [(k, top_k(logits, k)[np.arange(len(truth)), truth])] if k > 1 else []
