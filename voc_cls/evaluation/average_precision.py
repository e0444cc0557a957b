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
import numpy.typing as npt

from voc_cls.data.dataset import Dataset, DifficultPolicy

Floats = npt.NDArray[np.floating[Any]]
RECALLS_11PT = np.arange(11) / 10
RECALL_ROUNDING = 1e-9  # 0.3 recalled must reach the 0.3 of the list, whatever the last bit says


@dataclass(frozen=True)
class ClassResult:
    """One row of the table; the average precisions are in 0-1, NaN where the class has no positives."""

    name: str
    ap: float
    ap_11pt: float
    positives: int
    ignored: int


@dataclass(frozen=True)
class Evaluation:
    """Average precisions of one model on one split, under one policy for `difficult` objects."""

    split: str
    pictures: int
    difficult: DifficultPolicy
    classes: tuple[ClassResult, ...]

    @property
    def map(self) -> float:
        """Mean over the classes that have positives; NaN where none has."""
        return _mean([result.ap for result in self.classes])

    @property
    def map_11pt(self) -> float:
        """The same for the 11-point kind."""
        return _mean([result.ap_11pt for result in self.classes])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; a class without positives has null, since JSON knows no NaN."""
        return {
            "split": self.split,
            "pictures": self.pictures,
            "difficult": self.difficult.participle,
            "map": _json(self.map),
            "map_11pt": _json(self.map_11pt),
            "classes": {
                result.name: {"ap": _json(result.ap), "ap_11pt": _json(result.ap_11pt),
                              "positives": result.positives, "ignored": result.ignored}
                for result in self.classes
            },
        }


def precision_recall(truth: npt.NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """(precision, recall), highest score first, a point for every distinct score; `truth` needs a positive."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(truth, scores)
    # scikit-learn runs from the lowest threshold up and adds the point (recall 0, precision 1), which no score gave
    return precision[-2::-1], recall[-2::-1]


def average_precision(truth: npt.NDArray[np.bool_], scores: Floats) -> float:
    """Area under the curve whose precision is made monotone from the right (VOC2010+), 0-1; NaN without positives."""
    if not truth.any():
        return float("nan")
    precision, recall = precision_recall(truth, scores)
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * monotone))


def average_precision_11pt(truth: npt.NDArray[np.bool_], scores: Floats) -> float:
    """Mean over the recalls 0, 0.1 … 1 of the best precision at that recall or beyond (VOC2007), 0-1."""
    if not truth.any():
        return float("nan")
    precision, recall = precision_recall(truth, scores)
    reached = recall[None, :] >= RECALLS_11PT[:, None] - RECALL_ROUNDING
    return float(np.where(reached, precision, 0.0).max(axis=1).mean())


def evaluate(dataset: Dataset, scores: Floats, only: Collection[str] = ()) -> Evaluation:
    """Scores [N, classes] (any monotone function of the probability) against the labels; ignored entries left out.

    only: the classes to report and to take the means over; all where it is empty.
    """
    results = []
    for column, name in enumerate(dataset.classes):
        if only and name not in only:
            continue
        counted = ~dataset.ignored[:, column]
        truth, ranked = dataset.labels[counted, column] == 1, scores[counted, column]
        results.append(ClassResult(name, average_precision(truth, ranked), average_precision_11pt(truth, ranked),
                                   int(truth.sum()), int((~counted).sum())))
    return Evaluation(dataset.name, len(dataset), dataset.difficult, tuple(results))


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _json(value: float) -> float | None:
    return None if np.isnan(value) else value
