"""How much the numbers would move on other pictures: 95 % confidence intervals by bootstrap over the pictures.

A resample draws as many pictures as there are, with repetition (Efron 1979), so it is nothing but how often each
picture counts. With these counts as weights every class is sorted once, and all resamples go through its curve
together: 1,000 of VOC2007's 4,952 test pictures and 20 classes take seconds. `scipy.stats.bootstrap` would sort each.

Ends are the bias-corrected percentiles (Efron 1987): average precision comes out a little high in a resample, where
some pictures are there twice, and plain percentiles would pass this on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.average_precision import RECALL_ROUNDING, RECALLS_11PT
from voc_cls.evaluation.multilabel import Bools, indicators, json_number, rates
from voc_cls.evaluation.probabilities import Floats, log_softmax
from voc_cls.evaluation.singlelabel import among, guesses, truth_of

LEVEL = 0.95
RESAMPLES = 1000
LEAST_POSITIVES = 5
"""For the interval of a class by itself: resamples of one or two positives hardly differ, and would look certain. Of 5,
a resample has none in less than 1 % of the cases."""


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, 0-1; NaN where the number is not defined, or rests on too few positives."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """For a "±": half of the distance between the ends."""
        return (self.high - self.low) / 2

    def to_list(self) -> list[float | None]:
        """JSON-ready: [low, high]."""
        return [json_number(self.low), json_number(self.high)]


UNKNOWN = Interval(float("nan"), float("nan"))


@dataclass(frozen=True)
class Intervals:
    """Of the means, of the F1s at the thresholds, and of every class's average precision (area) by its name."""

    resamples: int
    seed: int
    map: Interval
    map_11pt: Interval
    cf1: Interval
    of1: Interval
    classes: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"level": LEVEL, "resamples": self.resamples, "seed": self.seed, "map": self.map.to_list(),
                "map_11pt": self.map_11pt.to_list(), "cf1": self.cf1.to_list(), "of1": self.of1.to_list(),
                "classes": {name: interval.to_list() for name, interval in self.classes.items()}}


@dataclass(frozen=True)
class SinglelabelIntervals:
    """Of the accuracies, of the macro F1 and of the average precisions; `top_k` is None where there is no such one."""

    resamples: int
    seed: int
    accuracy: Interval
    top_k: Interval | None
    macro_f1: Interval
    map: Interval
    map_11pt: Interval
    classes: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without top_k, whose name depends on k."""
        return {"level": LEVEL, "resamples": self.resamples, "seed": self.seed, "accuracy": self.accuracy.to_list(),
                "macro_f1": self.macro_f1.to_list(), "map": self.map.to_list(), "map_11pt": self.map_11pt.to_list(),
                "classes": {name: interval.to_list() for name, interval in self.classes.items()}}


def bootstrap(dataset: Dataset, scores: Floats, decided: Bools, resamples: int = RESAMPLES, seed: int = 0) -> Intervals:
    """Scores [N, classes] give the average precisions, decisions bool [N, classes] the F1s.

    A class without positives in a resample is left out of that resample's means, as in the evaluation itself.
    """
    drawn = draw(len(dataset), resamples, seed)
    area, eleven = average_precisions(dataset, scores, drawn)
    result = rates(*(drawn @ indicator for indicator in indicators(dataset, decided)))
    return Intervals(resamples, seed, interval_of(_mean(area)), interval_of(_mean(eleven)), interval_of(result.cf1),
                     interval_of(result.of1), _of_classes(dataset, area))


def bootstrap_singlelabel(dataset: Dataset, logits: Floats, columns: Sequence[int], resamples: int = RESAMPLES,
                          seed: int = 0) -> SinglelabelIntervals:
    """Of logits [N, classes]; all but the accuracies is about the classes `columns`."""
    drawn, truth = draw(len(dataset), resamples, seed), truth_of(dataset)
    predicted, chosen = logits.argmax(axis=1), dataset.only(columns)
    k = guesses(len(dataset.classes))
    area, eleven = average_precisions(chosen, log_softmax(logits)[:, list(columns)], drawn)
    decided = predicted[:, None] == np.asarray(columns)
    f1 = rates(*(drawn @ indicator for indicator in indicators(chosen, decided))).f1
    return SinglelabelIntervals(
        resamples, seed, interval_of(drawn @ (predicted == truth) / len(dataset)),
        None if k is None else interval_of(drawn @ among(truth, logits, k) / len(dataset)),
        interval_of(_mean(f1)), interval_of(_mean(area)), interval_of(_mean(eleven)), _of_classes(chosen, area))


def draw(pictures: int, resamples: int, seed: int) -> npt.NDArray[np.int64]:
    """int64 [1 + resamples, pictures]: how often each picture counts; first the pictures themselves, each once."""
    drawn = np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), resamples)
    return np.concatenate([np.ones((1, pictures), drawn.dtype), drawn])


def average_precisions(dataset: Dataset, scores: Floats, drawn: npt.NDArray[np.int64]) -> Floats:
    """float64 [2, 1 + resamples, classes]: area and 11-point, NaN where a class has no positives."""
    counts = np.ascontiguousarray(drawn.T, np.int32)
    precisions = np.empty((2, len(drawn), len(dataset.classes)))
    for column in range(len(dataset.classes)):
        counted = ~dataset.ignored[:, column]
        precisions[:, :, column] = weighted_average_precisions(
            dataset.labels[counted, column] == 1, scores[counted, column], counts[counted])
    return precisions


def _of_classes(dataset: Dataset, area: Floats) -> dict[str, Interval]:
    rare = (dataset.labels == 1).sum(axis=0) < LEAST_POSITIVES
    return {name: UNKNOWN if rare[column] else interval_of(area[:, column])
            for column, name in enumerate(dataset.classes)}


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


def _mean(precisions: Floats) -> Floats:
    """Over the classes that have positives in a resample, from [resamples, classes]."""
    known = ~np.isnan(precisions)
    number = known.sum(axis=1)
    means: Floats = np.divide(np.where(known, precisions, 0.0).sum(axis=1), number,
                              out=np.full(len(precisions), np.nan), where=number > 0)
    return means


def interval_of(values: Floats) -> Interval:
    """Bias-corrected percentiles of [1 + resamples]: the value of the pictures themselves, then the resamples'."""
    value, resampled = values[0], values[1:][~np.isnan(values[1:])]
    if np.isnan(value) or not len(resampled):
        return UNKNOWN
    below = float((resampled < value).mean() + (resampled == value).mean() / 2)
    normal, smallest = NormalDist(), 1 / (2 * len(resampled))
    bias = normal.inv_cdf(min(max(below, smallest), 1 - smallest))
    ends = [normal.cdf(2 * bias + normal.inv_cdf(tail)) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    low, high = np.quantile(resampled, ends)
    return Interval(float(low), float(high))
