"""Whether a probability of 0.8 is right 8 times of 10, and the rescaling of logits under which it would be.

Two rescalings are fitted to validation logits: a temperature, one for all classes (Guo et al. 2017, arXiv:1706.04599),
and Platt's slope and offset per class (Platt 1999, with his smoothed targets, which keep the fit finite on separable
data). Both are logistic regressions on the logit. Both rise with the logit, so neither changes a ranking, an average
precision, or what a threshold decides that is moved along. So they are reported, and the probabilities that are served,
and the thresholds, stay those of the network itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from voc_cls.data.dataset import Dataset
from voc_cls.errors import RunError
from voc_cls.evaluation.multilabel import Bools, json_number
from voc_cls.evaluation.platt import fit_class_line, fit_line, read_fitted
from voc_cls.evaluation.probabilities import Floats, sigmoid
from voc_cls.files import write_json

FILE = "calibration.json"
"""In the run folder."""
BINS = 15
"""Of equal width, as in Guo et al. 2017."""


@dataclass(frozen=True)
class ClassPlatt:
    """Calibrated logit = slope × logit + offset; `fitted` to the class itself or the shared temperature."""

    name: str
    slope: float
    offset: float
    fitted: Literal["class", "shared"]


@dataclass(frozen=True)
class Calibration:
    """Both rescalings, in the order of the network's outputs; `split` is what they were fitted to."""

    split: str
    temperature: float
    classes: tuple[ClassPlatt, ...]

    def by_temperature(self, logits: Floats) -> Floats:
        """Logits [N, classes] divided by the temperature."""
        return logits / self.temperature

    def by_platt(self, logits: Floats) -> Floats:
        """Logits [N, classes], each class by its own line."""
        slopes, offsets = np.array([(line.slope, line.offset) for line in self.classes]).T
        rescaled: Floats = logits * slopes + offsets
        return rescaled

    def of(self, names: Sequence[str]) -> Calibration:
        """That of `names` alone, in that order."""
        known = {line.name: line for line in self.classes}
        return Calibration(self.split, self.temperature, tuple(known[name] for name in names))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, the inverse of `read_calibration`."""
        return {"split": self.split, "temperature": self.temperature,
                "classes": {line.name: {"slope": line.slope, "offset": line.offset, "fitted": line.fitted}
                            for line in self.classes}}


@dataclass(frozen=True)
class Bin:
    """A bar of the reliability diagram: the entries with a probability in [lower, upper)."""

    lower: float
    upper: float
    confidence: float
    """Their mean probability; NaN in an empty bin."""
    accuracy: float
    """The share of them that is positive; NaN in an empty bin."""
    count: int


@dataclass(frozen=True)
class Reliability:
    """Expected calibration errors, 0-1: over all entries together with their bins, and class by class."""

    bins: tuple[Bin, ...]
    ece: float
    classes: dict[str, float]

    @property
    def class_ece(self) -> float:
        """Mean over the classes that have entries; NaN where none has."""
        known = [error for error in self.classes.values() if not math.isnan(error)]
        return float(np.mean(known)) if known else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"ece": json_number(self.ece), "class_ece": json_number(self.class_ece),
                "bins": [{"lower": bar.lower, "upper": bar.upper, "confidence": json_number(bar.confidence),
                          "accuracy": json_number(bar.accuracy), "count": bar.count} for bar in self.bins]}


@dataclass(frozen=True)
class Calibrated:
    """The evaluated split's reliability as the network answers, and under both rescalings (None: none was fitted)."""

    raw: Reliability
    temperature: Reliability | None
    platt: Reliability | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: None if value is None else value.to_dict()
                for name, value in (("raw", self.raw), ("temperature", self.temperature), ("platt", self.platt))}


def fit_calibration(validation: Dataset, logits: Floats) -> Calibration | None:
    """Fits both to the validation logits [N, classes]; None where it has no positive or no negative entry."""
    counted, true = ~validation.ignored, validation.labels == 1
    pooled = true[counted]
    if pooled.all() or not pooled.any():
        return None
    slope = fit_line(pooled, logits[counted], offset=False).slope
    if slope <= 0:  # a network worse than chance has no temperature
        slope = 1.0
    classes = []
    for column, name in enumerate(validation.classes):
        of_class = counted[:, column]
        own = fit_class_line(true[of_class, column], logits[of_class, column])
        classes.append(ClassPlatt(name, slope, 0.0, "shared") if own is None else
                       ClassPlatt(name, own.slope, own.offset, "class"))
    return Calibration(validation.name, 1 / slope, tuple(classes))


def calibrated(dataset: Dataset, logits: Floats, calibration: Calibration | None) -> Calibrated:
    """Reliability of the logits [N, classes], before and after."""
    if calibration is None:
        return Calibrated(reliability(dataset, logits), None, None)
    return Calibrated(reliability(dataset, logits), reliability(dataset, calibration.by_temperature(logits)),
                      reliability(dataset, calibration.by_platt(logits)))


def reliability(dataset: Dataset, logits: Floats) -> Reliability:
    """Of the sigmoid of the logits [N, classes], ignored entries left out."""
    probabilities, counted, true = sigmoid(logits), ~dataset.ignored, dataset.labels == 1
    bins = reliability_bins(true[counted], probabilities[counted])
    classes = {name: expected_error(reliability_bins(true[rows, column], probabilities[rows, column]))
               for column, name in enumerate(dataset.classes) for rows in [counted[:, column]]}
    return Reliability(bins, expected_error(bins), classes)


def reliability_bins(truth: Bools, probabilities: Floats) -> tuple[Bin, ...]:
    """BINS bins of equal width over 0-1, of entries of any shape; 1 belongs to the last."""
    probabilities = np.asarray(probabilities, np.float64)
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, probabilities, BINS) / count
        accuracy = np.bincount(place, truth, BINS) / count
    return tuple(Bin(number / BINS, (number + 1) / BINS, float(confidence[number]), float(accuracy[number]),
                     int(count[number])) for number in range(BINS))


def expected_error(bins: tuple[Bin, ...]) -> float:
    """Expected calibration error (Naeini et al. 2015): |confidence - accuracy|, averaged over the entries; 0-1."""
    filled = [bar for bar in bins if bar.count]
    entries = sum(bar.count for bar in filled)
    if not entries:
        return float("nan")
    return sum(bar.count * abs(bar.confidence - bar.accuracy) for bar in filled) / entries


def write_calibration(run: Path, calibration: Calibration) -> None:
    """Writes calibration.json into the run folder, whole or not at all."""
    write_json(run / FILE, calibration.to_dict())


def read_calibration(run: Path, labels: Sequence[str]) -> Calibration | None:
    """The run's calibration, None where none was fitted; RunError where the file is not about `labels`."""
    path = run / FILE
    values = read_fitted(path, labels)
    if values is None:
        return None
    try:
        classes = tuple(ClassPlatt(name, above_zero(entry["slope"]), _finite(entry["offset"]), entry["fitted"])
                        for name, entry in values["classes"].items())
        return Calibration(values["split"], above_zero(values["temperature"]), classes)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: not the calibration of a run ({error!r}); delete it or repeat the run") from error


def _finite(value: Any) -> float:
    if not isinstance(value, float | int) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def above_zero(value: Any) -> float:
    """A number from a file; ValueError where it is none, or not above 0."""
    if _finite(value) <= 0:
        raise ValueError(f"{value!r} is not above 0")
    return float(value)
