"""VOC average precision, one class at a time and over all of them.

Two kinds, as the VOC devkits compute them: the area under the monotone precision/recall curve (VOC2010 and later,
`VOCap.m`) and the mean of the best precision at or beyond each of 11 recalls (VOC2007, Everingham et al. 2010, section
4.2.1). Pictures with equal scores enter the curve together, so the order of a file list cannot change a number.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
        return {
            "split": self.split,
            "pictures": self.pictures,
            "difficult": self.difficult.participle,
            "map": self.map,
            "map_11pt": self.map_11pt,
            "classes": {result.name: {"ap": result.ap, "ap_11pt": result.ap_11pt, "positives": result.positives,
                                      "ignored": result.ignored} for result in self.classes},
        }


def resampled_average_precisions(dataset: Dataset, scores: Floats, drawn: npt.NDArray[np.int64]) -> Floats:
    """float64 [2, R, classes]: area and 11-point, NaN where a class has no positives; `drawn` [R, pictures] says how
    often each picture counts."""
    counts = np.ascontiguousarray(drawn.T, np.int32)
    precisions = np.empty((2, len(drawn), len(dataset.classes)))
    for column in range(len(dataset.classes)):
        counted = ~dataset.ignored[:, column]
        precisions[:, :, column] = weighted_average_precisions(
            dataset.labels[counted, column] == 1, scores[counted, column], counts[counted])
    return precisions


def weighted_average_precisions(truth: Bools, scores: Floats, counts: npt.NDArray[np.int32]) -> Floats:
    """float64 [2, resamples]: area and 11-point average precision when picture n counts `counts[n]` [resamples] times.

    NaN for a resample without positives. Precision is highest where a positive has just been passed, so the curve is
    followed at the positives' scores alone.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, truth = scores[order], truth[order]
    last = np.searchsorted(-ranked, -ranked[truth], side="right") - 1  # for every positive: the last of equal scores
    ends, group = np.unique(last, return_index=True)
    if not len(ends):
        return np.full((2, counts.shape[1]), np.nan)
    passed = np.add.reduceat(counts[order[:ends[-1] + 1]], np.append(0, ends[:-1] + 1), axis=0).cumsum(axis=0)
    right = np.add.reduceat(counts[order[truth]], group, axis=0).cumsum(axis=0)
    positives = right[-1]
    with np.errstate(invalid="ignore"):
        precision, recall = np.where(passed > 0, right / passed, 0.0), right / positives
    monotone = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    area = (np.diff(recall, prepend=0.0, axis=0) * monotone).sum(axis=0)
    reached = np.stack([(recall < level - RECALL_ROUNDING).sum(axis=0) for level in RECALLS_11PT])
    eleven = np.take_along_axis(monotone, np.minimum(reached, len(ends) - 1), axis=0).mean(axis=0)
    defined: Floats = np.where(positives > 0, np.stack([area, eleven]), np.nan)
    return defined


def average_precisions(dataset: Dataset, scores: Floats, classes: Collection[str] = ()) -> AveragePrecisions:
    """Average precisions of scores, float [N, classes], any monotone function of the probability; ignored entries are
    left out. classes: those to report and to average over; empty: all."""
    area, eleven = resampled_average_precisions(dataset, scores, np.ones((1, len(dataset)), np.int64))[:, 0].tolist()
    positives, ignored = (dataset.labels == 1).sum(axis=0).tolist(), dataset.ignored.sum(axis=0).tolist()
    columns = [column for column, name in enumerate(dataset.classes) if not classes or name in classes]
    return AveragePrecisions(dataset.name, len(dataset), dataset.difficult, tuple(
        ClassAveragePrecision(dataset.classes[column], area[column], eleven[column], positives[column],
                              ignored[column]) for column in columns))
