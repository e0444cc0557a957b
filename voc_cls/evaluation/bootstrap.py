"""95 % confidence intervals by bootstrap over the pictures.

A resample draws as many pictures as there are, with repetition (Efron 1979), so it is a count for each picture. With
these counts as weights every class is sorted once, and all resamples go through its curve together: 1,000 resamples of
VOC2007's 4,952 test pictures and 20 classes take seconds. `scipy.stats.bootstrap` would sort each resample.

Ends are the bias-corrected percentiles (Efron 1987): average precision is biased upwards in a resample, because some
pictures occur twice, and plain percentiles would keep that bias.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.average_precision import RECALL_ROUNDING, RECALLS_11PT
from voc_cls.evaluation.predictions import Bools, Floats, defined_mean

LEVEL = 0.95
RESAMPLES = 1000
SEED = 0
"""Of the resamples: the same numbers each time."""
LEAST_POSITIVES = 5
"""For the interval of a class: resamples of one or two positives hardly differ, and would look certain. With 5, less
than 1 % of the resamples have none."""


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, 0-1; NaN if the number is not defined, or there are too few positives."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """For a "±": half of the distance between the ends."""
        return (self.high - self.low) / 2


UNKNOWN = Interval(float("nan"), float("nan"))


@dataclass(frozen=True)
class Intervals:
    """Of the metrics, by their names, and of each class's average precision (area), by the class's name."""

    resamples: int
    metrics: dict[str, Interval]
    classes: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN where a number is not defined."""
        return {"level": LEVEL, "resamples": self.resamples, "seed": SEED,
                **{name: list(astuple(interval)) for name, interval in self.metrics.items()},
                "classes": {name: list(astuple(interval)) for name, interval in self.classes.items()}}


def draw(pictures: int, resamples: int) -> npt.NDArray[np.int64]:
    """int64 [1 + resamples, pictures]: how often each picture counts; the first row is the original split, all ones."""
    drawn = np.random.default_rng(SEED).multinomial(pictures, np.full(pictures, 1 / pictures), resamples)
    return np.concatenate([np.ones((1, pictures), drawn.dtype), drawn])


def resampled_average_precisions(dataset: Dataset, scores: Floats, drawn: npt.NDArray[np.int64]) -> Floats:
    """float64 [2, 1 + resamples, classes]: area and 11-point, NaN where a class has no positives."""
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


def interval_of(values: Floats) -> Interval:
    """Bias-corrected percentiles of [1 + resamples]: the value of the original split, then of the resamples."""
    value, resampled = values[0], values[1:][~np.isnan(values[1:])]
    if np.isnan(value) or not len(resampled):
        return UNKNOWN
    below = float((resampled < value).mean() + (resampled == value).mean() / 2)
    normal, smallest = NormalDist(), 1 / (2 * len(resampled))
    bias = normal.inv_cdf(min(max(below, smallest), 1 - smallest))
    ends = [normal.cdf(2 * bias + normal.inv_cdf(tail)) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    low, high = np.quantile(resampled, ends)
    return Interval(float(low), float(high))


def intervals_of(dataset: Dataset, scores: Floats, drawn: npt.NDArray[np.int64], metrics: dict[str, Floats]
                 ) -> Intervals:
    """Confidence intervals of map, map_11pt, `metrics`, and each class's average precision.

    A class without positives in a resample is left out of that resample's means, as in the metrics themselves. A class
    with too few positives is UNKNOWN.

    Args:
        dataset: The pictures and their labels.
        scores: float [N, classes], which give the average precisions.
        drawn: As `draw` returns it.
        metrics: Name → values [1 + resamples] of a metric.
    """
    area, eleven = resampled_average_precisions(dataset, scores, drawn)
    values = {"map": defined_mean(area), "map_11pt": defined_mean(eleven), **metrics}
    rare = (dataset.labels == 1).sum(axis=0) < LEAST_POSITIVES
    return Intervals(len(drawn) - 1, {name: interval_of(of_metric) for name, of_metric in values.items()},
                     {name: UNKNOWN if rare[column] else interval_of(area[:, column])
                      for column, name in enumerate(dataset.classes)})
