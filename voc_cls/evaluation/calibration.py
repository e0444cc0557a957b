"""What is fitted to a validation split: the rescaling of logits under which a probability of 0.8 is right 8 times of
10, and in multi-label tasks thresholds, the probability from which on a label counts as seen, for the highest F1.

The rescaling is the same for all classes: a temperature (Guo et al. 2017, arXiv:1706.04599), in multi-label tasks with
an offset (Platt 1999, with his smoothed targets, which keep the fit finite on separable data). It rises with the logit,
so it changes neither a ranking, nor an average precision, nor what a threshold decides that is moved along. It is
reported; what is served is the network's own unless the export is `calibrated`, and then its thresholds are moved
along. A line for each class, from some tens of positives, is worse than none on other pictures (docs/decisions.md).

The threshold with the highest F1 on so few positives is largely chance, too: on other pictures of the real VOC2007 part
it was worse than one threshold for all classes. So the threshold is the one with the highest F1 to be expected under
Platt's line of the class: half of that F1, as a calibrated probability (Lipton et al. 2014, arXiv:1402.1892), carried
back through the line. A class with fewer than LEAST_POSITIVES positives gets the threshold that is best in the same
sense for all entries together (OF1); where there is no positive at all, it is 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from voc_cls.data.dataset import Dataset, Task
from voc_cls.errors import RunError, reason
from voc_cls.evaluation.predictions import Bools, Floats, defined_mean, log_loss, probabilities_of
from voc_cls.files import read_json
from voc_cls.prediction import DEFAULT_THRESHOLD

CALIBRATION_FILE, THRESHOLDS_FILE = "calibration.json", "thresholds.json"
"""In the run folder."""
BINS = 15
"""Of equal width, as in Guo et al. 2017."""
LEAST_POSITIVES = 10
"""Of a class in the validation split, and negatives too, for a threshold of its own."""
TEMPERATURES = (0.02, 50.0)
"""Range that is searched in single-label tasks: if all predictions are right the best temperature would be 0, and
infinite for predictions by chance."""

Fit = TypeVar("Fit")


@dataclass(frozen=True)
class Calibration:
    """Calibrated logit = logit / temperature + offset, for all classes; `split` is what it was fitted to."""

    split: str
    temperature: float
    offset: float = 0.0
    """Multi-label only: it would cancel out of a softmax."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf or not math.isfinite(self.offset):
            raise ValueError(f"{self}: the temperature must be above 0, and both be finite")

    def __str__(self) -> str:
        return f"temperature {self.temperature:.2f}" + (f" and offset {self.offset:+.2f}" if self.offset else "")

    @property
    def method(self) -> Literal["platt", "temperature"]:
        """The name of the rescaling, for exports and servers."""
        return "platt" if self.offset else "temperature"

    def rescaled(self, logits: Floats) -> Floats:
        """Calibrated logits, of any shape."""
        return logits / self.temperature + self.offset

    def moved(self, thresholds: Thresholds) -> Thresholds:
        """Thresholds of the network's own probabilities → of the calibrated ones, which decide the same."""
        return replace(thresholds, classes={
            name: replace(entry, threshold=float(expit(self.rescaled(logit(entry.threshold)))))
            for name, entry in thresholds.classes.items()})


@dataclass(frozen=True)
class ClassThreshold:
    """A probability, whether it is the class's own, and how many validation positives there were to choose it by."""

    threshold: float
    chosen: Literal["class", "shared", "default"]
    positives: int

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"{self.threshold} is not a probability")


@dataclass(frozen=True)
class Thresholds:
    """One for each class, in the order of the network's outputs; `split` is what they were chosen on, None: nothing."""

    split: str | None
    shared: float
    classes: dict[str, ClassThreshold]

    @property
    def by_label(self) -> dict[str, float]:
        return {label: of_class.threshold for label, of_class in self.classes.items()}

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """float64 [classes]."""
        return np.array(list(self.by_label.values()))


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
    """Expected calibration errors, 0-1: over all entries, with their bins, and for each class."""

    bins: tuple[Bin, ...]
    ece: float
    classes: dict[str, float]

    @property
    def class_ece(self) -> float:
        """Mean over the classes that have entries; NaN where none has."""
        return float(defined_mean(np.array(list(self.classes.values()))))

    def to_dict(self) -> dict[str, Any]:
        return {"ece": self.ece, "class_ece": self.class_ece, "bins": [asdict(bar) for bar in self.bins]}


def fit_calibration(validation: Dataset, logits: Floats) -> Calibration | None:
    """Fits the rescaling to validation logits [N, classes]; None for a multi-label split that `fit_line` has none for.
    """
    if validation.task is Task.SINGLE_LABEL:
        from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

        truth, exact = validation.labels.argmax(axis=1), np.asarray(logits, np.float64)
        # as a function of log(temperature) the log loss has one minimum: it is convex in 1 / temperature
        best = minimize_scalar(lambda exponent: log_loss(truth, exact / np.exp(exponent)),
                               bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-6})
        return Calibration(validation.name, float(np.exp(best.x)))
    counted = ~validation.ignored
    return fit_line(validation.labels[counted] == 1, logits[counted], split=validation.name)


def fit_line(truth: Bools, logits: Floats, least: int = 1, split: str = "") -> Calibration | None:
    """Platt's logistic regression of `truth` [entries] on `logits` [entries]; None with fewer than `least` positives or
    negatives, and for a ranking worse than by chance.

    The targets are Platt's (1999): (n + 1) / (n + 2) for n positives, 1 / (m + 2) for m negatives. They keep the fit
    finite on separable data. Every entry is there as a positive and as a negative, weighted by its target.
    """
    from sklearn.linear_model import LogisticRegression

    positives, negatives = int(truth.sum()), int((~truth).sum())
    if min(positives, negatives) < least:
        return None
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scores = np.concatenate([logits, logits]).astype(np.float64)[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-6, max_iter=1000)
    model.fit(scores, np.repeat([1, 0], len(logits)), sample_weight=np.concatenate([target, 1 - target]))
    slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    return Calibration(split, 1 / slope, offset) if slope > 0 else None


def default_thresholds(labels: Sequence[str]) -> Thresholds:
    """0.5 for every class: for a run without a validation split."""
    return Thresholds(None, DEFAULT_THRESHOLD, dict.fromkeys(labels, ClassThreshold(DEFAULT_THRESHOLD, "default", 0)))


def choose_thresholds(validation: Dataset, logits: Floats) -> Thresholds:
    """Thresholds from the validation split's labels and logits [N, classes]; ignored entries are left out."""
    counted, true = ~validation.ignored, validation.labels == 1
    line = fit_line(true[counted], logits[counted])
    if line is None:
        return default_thresholds(validation.classes)
    shared = best_f1_threshold(logits[counted], line)
    classes = {}
    for column, (name, rows) in enumerate(zip(validation.classes, counted.T, strict=True)):
        truth, scores = true[rows, column], logits[rows, column]
        own = fit_line(truth, scores, LEAST_POSITIVES)
        classes[name] = (ClassThreshold(shared, "shared", int(truth.sum())) if own is None else
                         ClassThreshold(best_f1_threshold(scores, own), "class", int(truth.sum())))
    return Thresholds(validation.name, shared, classes)


def best_f1_threshold(logits: Floats, line: Calibration) -> float:
    """The best threshold for entries with these logits, if `line` is their calibration.

    Of the k most probable entries, q being the calibrated probabilities, 2 × (sum of their q) / (k + sum of all q) is
    the F1 to be expected; its highest value is twice the calibrated threshold.
    """
    calibrated = -np.sort(-expit(line.rescaled(np.asarray(logits, np.float64))))
    expected = 2 * np.cumsum(calibrated) / (np.arange(1, len(calibrated) + 1) + calibrated.sum())
    return float(expit((logit(expected.max() / 2) - line.offset) * line.temperature))


def reliability(dataset: Dataset, logits: Floats) -> Reliability:
    """Of the probabilities that the logits [N, classes] mean.

    Multi-label: all entries but the ignored ones. Single-label: the most probable class of each picture; `classes` are
    one against the rest.
    """
    true, counted = dataset.labels == 1, ~dataset.ignored
    probabilities = probabilities_of(np.asarray(logits, np.float64), dataset.task)
    if dataset.task is Task.MULTI_LABEL:
        bins = reliability_bins(true[counted], probabilities[counted])
    else:
        right = probabilities.argmax(axis=1) == dataset.labels.argmax(axis=1)
        bins = reliability_bins(right, probabilities.max(axis=1))
    classes = {name: expected_error(reliability_bins(true[rows, column], probabilities[rows, column]))
               for column, (name, rows) in enumerate(zip(dataset.classes, counted.T, strict=True))}
    return Reliability(bins, expected_error(bins), classes)


def reliability_bins(truth: Bools, probabilities: Floats) -> tuple[Bin, ...]:
    """BINS bins of equal width over 0-1, of entries of any shape; 1 belongs to the last."""
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


def read_calibration(run: Path, labels: Sequence[str]) -> Calibration | None:
    """The run's calibration, None if none was fitted; RunError if the file is not of these labels."""
    return read_fitted(run / CALIBRATION_FILE, labels, lambda values: Calibration(
        values["split"], values["temperature"], values.get("offset", 0.0)))  # 0.4.0 wrote none


def read_thresholds(run: Path, labels: Sequence[str]) -> Thresholds | None:
    """The run's thresholds, None if it has none; RunError if the file is not of these labels."""
    return read_fitted(run / THRESHOLDS_FILE, labels, lambda values: Thresholds(values["split"], values["shared"], {
        name: ClassThreshold(**entry) for name, entry in values["classes"].items()}))


def read_fitted(path: Path, labels: Sequence[str], build: Callable[[dict[str, Any]], Fit]) -> Fit | None:
    """What was fitted, as `build` makes it of the values in a JSON file named after it, such as thresholds.json.

    None if there is no file; RunError if it cannot be used, or its "classes", keys or a list, are not `labels`.
    """
    if (values := read_json(path)) is None:
        return None
    classes = values.get("classes") if isinstance(values, dict) else None
    if not isinstance(values, dict) or not isinstance(classes, dict | list) or list(classes) != list(labels):
        raise RunError(f"{path}: its classes are not those of the run's labels.txt; delete it or repeat the run")
    try:
        return build(values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: not the {path.stem} of a run ({reason(error)}); delete it or train again") from error
