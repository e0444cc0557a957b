"""VOC average precision, one class at a time and over all of them.

Two kinds, as the VOC devkits compute them: the area under the monotone precision/recall curve (VOC2010 and later,
`VOCap.m`) and the mean of the precision at 11 recalls (VOC2007, Everingham et al. 2010, section 4.2.1). Pictures with
equal scores enter the curve together, so the order of a file list cannot change a number.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.evaluation.predictions import Bools, Floats, defined_mean

RECALLS_11PT = np.arange(11) / 10
RECALL_ROUNDING = 1e-9  # a recall of 0.3 must reach the 0.3 of the list, whatever the last bit is


@dataclass(frozen=True)
class ClassAveragePrecision:
    """One class; the average precisions are in 0-1, NaN where the class has no positives."""

    name: str
    ap: float
    ap_11pt: float
    positives: int
    ignored: int


@dataclass(frozen=True)
class AveragePrecisions:
    """Average precisions of one model on one split, under one policy for `difficult` objects."""

    split: str
    pictures: int
    difficult: DifficultPolicy
    classes: tuple[ClassAveragePrecision, ...]

    @property
    def map(self) -> float:
        """Mean over the classes that have positives; NaN where none has."""
        return float(defined_mean(np.array([result.ap for result in self.classes])))

    @property
    def map_11pt(self) -> float:
        """The same for the 11-point kind."""
        return float(defined_mean(np.array([result.ap_11pt for result in self.classes])))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN where a number is not defined."""
        return {
            "split": self.split,
            "pictures": self.pictures,
            "difficult": self.difficult.participle,
            "map": self.map,
            "map_11pt": self.map_11pt,
            "classes": {result.name: {"ap": result.ap, "ap_11pt": result.ap_11pt, "positives": result.positives,
                                      "ignored": result.ignored} for result in self.classes},
        }


def precision_recall(truth: Bools, scores: Floats) -> tuple[Floats, Floats]:
    """(precision, recall), highest score first, a point for every distinct score; `truth` needs a positive."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(truth, scores)
    # scikit-learn runs from the lowest threshold up and adds the point (recall 0, precision 1), which no score gave
    return precision[-2::-1], recall[-2::-1]


def average_precision(truth: Bools, scores: Floats) -> float:
    """Area under the curve whose precision is made monotone from the right (VOC2010+), 0-1; NaN without positives."""
    if not truth.any():
        return float("nan")
    precision, recall = precision_recall(truth, scores)
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * monotone))


def average_precision_11pt(truth: Bools, scores: Floats) -> float:
    """Mean over the recalls 0, 0.1 … 1 of the best precision at that recall or beyond (VOC2007), 0-1."""
    if not truth.any():
        return float("nan")
    precision, recall = precision_recall(truth, scores)
    reached = recall[None, :] >= RECALLS_11PT[:, None] - RECALL_ROUNDING
    return float(np.where(reached, precision, 0.0).max(axis=1).mean())


def average_precisions(dataset: Dataset, scores: Floats, classes: Collection[str] = ()) -> AveragePrecisions:
    """Average precisions of scores against labels; ignored entries are left out.

    Args:
        dataset: The pictures and their labels.
        scores: float [N, classes]: any monotone function of the probability.
        classes: The classes to report and to average over; empty: all.
    """
    results = []
    for column, name in enumerate(dataset.classes):
        if classes and name not in classes:
            continue
        counted = ~dataset.ignored[:, column]
        truth, ranked = dataset.labels[counted, column] == 1, scores[counted, column]
        results.append(ClassAveragePrecision(name, average_precision(truth, ranked),
                                             average_precision_11pt(truth, ranked), int(truth.sum()),
                                             int((~counted).sum())))
    return AveragePrecisions(dataset.name, len(dataset), dataset.difficult, tuple(results))
