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
from voc_cls.evaluation.average_precision import resampled_average_precisions
from voc_cls.evaluation.predictions import Floats, defined_mean

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
        return (self.high - self.low) / 2


UNKNOWN = Interval(float("nan"), float("nan"))


@dataclass(frozen=True)
class Intervals:
    """Of the metrics, by their names, and of each class's average precision (area), by the class's name."""

    resamples: int
    metrics: dict[str, Interval]
    classes: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        return {"level": LEVEL, "resamples": self.resamples, "seed": SEED,
                **{name: list(astuple(interval)) for name, interval in self.metrics.items()},
                "classes": {name: list(astuple(interval)) for name, interval in self.classes.items()}}


def draw(pictures: int, resamples: int) -> npt.NDArray[np.int64]:
    """int64 [1 + resamples, pictures]: how often each picture counts; the first row is the original split, all ones."""
    drawn = np.random.default_rng(SEED).multinomial(pictures, np.full(pictures, 1 / pictures), resamples)
    return np.concatenate([np.ones((1, pictures), drawn.dtype), drawn])


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
    """Confidence intervals of each class's average precision by `scores` [N, classes], of map and map_11pt, and of
    other `metrics`, name → values [1 + resamples], from what `draw` returned.

    A class without positives in a resample is left out of that resample's means, as in the metrics themselves. A class
    with too few positives is UNKNOWN.
    """
    area, eleven = resampled_average_precisions(dataset, scores, drawn)
    values = {"map": defined_mean(area), "map_11pt": defined_mean(eleven), **metrics}
    rare = (dataset.labels == 1).sum(axis=0) < LEAST_POSITIVES
    return Intervals(len(drawn) - 1, {name: interval_of(of_metric) for name, of_metric in values.items()},
                     {name: UNKNOWN if rare[column] else interval_of(area[:, column])
                      for column, name in enumerate(dataset.classes)})
