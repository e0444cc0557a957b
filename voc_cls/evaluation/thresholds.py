"""Thresholds: the probability from which on a label of a multi-label model counts as seen, for the highest F1.

The threshold with the highest F1 on some tens of validation positives is largely chance: on other pictures of the real
VOC2007 part it was worse than one threshold for all classes (docs/decisions.md). So a class's probabilities are first
calibrated by Platt's line, and the threshold is the one with the highest F1 to be expected under these: half of that
F1, as a calibrated probability (Lipton et al. 2014, arXiv:1402.1892), carried back through the line. A class with fewer
than LEAST_POSITIVES positives gets the threshold that is best in the same sense for all entries together (OF1); where
there is no positive at all, it is 0.5. Thresholds are of the network's own probabilities, which are what is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.calibration import PlattLine, fit_class_line, fit_line, read_fitted
from voc_cls.evaluation.predictions import Floats

FILE = "thresholds.json"
"""In the run folder."""
DEFAULT = 0.5


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
    def values(self) -> npt.NDArray[np.float64]:
        """float64 [classes]."""
        return np.array([of_class.threshold for of_class in self.classes.values()])

    def of(self, names: Sequence[str]) -> Thresholds:
        """Those of `names` alone, in that order."""
        return replace(self, classes={name: self.classes[name] for name in names})


def default_thresholds(labels: Sequence[str]) -> Thresholds:
    """0.5 for every class: for a run without a validation split."""
    return Thresholds(None, DEFAULT, {name: ClassThreshold(DEFAULT, "default", 0) for name in labels})


def choose_thresholds(validation: Dataset, logits: Floats) -> Thresholds:
    """Thresholds from the validation split's labels and logits [N, classes]; ignored entries are left out."""
    counted, true = ~validation.ignored, validation.labels == 1
    pooled = true[counted]
    line = PlattLine(0.0, 0.0) if pooled.all() or not pooled.any() else fit_line(pooled, logits[counted])
    if line.slope <= 0:  # nothing to learn from, or a network worse than chance
        return default_thresholds(validation.classes)
    shared = best_f1_threshold(logits[counted], line)
    classes = {}
    for column, (name, rows) in enumerate(zip(validation.classes, counted.T, strict=True)):
        truth, scores = true[rows, column], logits[rows, column]
        own = fit_class_line(truth, scores)
        classes[name] = (ClassThreshold(shared, "shared", int(truth.sum())) if own is None else
                         ClassThreshold(best_f1_threshold(scores, own), "class", int(truth.sum())))
    return Thresholds(validation.name, shared, classes)


def best_f1_threshold(logits: Floats, line: PlattLine) -> float:
    """The best threshold for entries with these logits, if `line` is their calibration.

    Of the k most probable entries, q being the calibrated probabilities, 2 × (sum of their q) / (k + sum of all q) is
    the F1 to be expected; its highest value is twice the calibrated threshold.
    """
    calibrated = -np.sort(-expit(line.slope * np.asarray(logits, np.float64) + line.offset))
    expected = 2 * np.cumsum(calibrated) / (np.arange(1, len(calibrated) + 1) + calibrated.sum())
    return float(expit((logit(expected.max() / 2) - line.offset) / line.slope))


def read_thresholds(run: Path, labels: Sequence[str]) -> Thresholds | None:
    """The run's thresholds, None if it has none; RunError if the file is not of these labels."""
    def build(values: dict[str, Any]) -> Thresholds:
        classes = {name: ClassThreshold(**entry) for name, entry in values["classes"].items()}
        return Thresholds(values["split"], values["shared"], classes)

    return read_fitted(run / FILE, labels, build)
