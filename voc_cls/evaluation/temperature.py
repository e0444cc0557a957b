"""Whether a picture's probability is how often it is right, and the temperature under which it would be.

For pictures of one class each: the logits are divided by one number, fitted to the validation pictures by the lowest
log loss (Guo et al. 2017, arXiv:1706.04599). It changes no prediction. So it is reported, and what is served stays the
network's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voc_cls.data.dataset import Dataset
from voc_cls.errors import RunError
from voc_cls.evaluation.calibration import (
    FILE,
    Calibrated,
    Reliability,
    above_zero,
    expected_error,
    reliability_bins,
)
from voc_cls.evaluation.platt import read_fitted
from voc_cls.evaluation.probabilities import Floats, softmax
from voc_cls.evaluation.singlelabel import log_loss, truth_of
from voc_cls.files import write_json

RANGE = (0.02, 50.0)
"""Temperatures that are tried: of pictures that are all right the lowest would be 0, of chance the highest infinite."""


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by; `split` is what it was fitted to."""

    split: str
    temperature: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"split": self.split, "temperature": self.temperature}


def fit_temperature(validation: Dataset, logits: Floats) -> Temperature:
    """The temperature with the lowest log loss of the validation logits [N, classes]."""
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    truth, exact = truth_of(validation), np.asarray(logits, np.float64)
    # over its logarithm the loss has one lowest place: it is convex in 1 / temperature
    found = minimize_scalar(lambda exponent: log_loss(truth, exact / np.exp(exponent)), bounds=np.log(RANGE),
                            method="bounded", options={"xatol": 1e-6})
    return Temperature(validation.name, float(np.exp(found.x)))


def calibrated(dataset: Dataset, logits: Floats, temperature: Temperature | None) -> Calibrated:
    """Reliability of the logits [N, classes], before and after."""
    after = None if temperature is None else reliability(dataset, logits / np.float32(temperature.temperature))
    return Calibrated(reliability(dataset, logits), after, None)


def reliability(dataset: Dataset, logits: Floats) -> Reliability:
    """Of the predicted classes: how often they are right against their probability; `classes` one against the rest."""
    probabilities, truth = softmax(np.asarray(logits, np.float64)), truth_of(dataset)
    predicted = probabilities.argmax(axis=1)
    bins = reliability_bins(predicted == truth, probabilities.max(axis=1))
    classes = {name: expected_error(reliability_bins(truth == column, probabilities[:, column]))
               for column, name in enumerate(dataset.classes)}
    return Reliability(bins, expected_error(bins), classes)


def write_temperature(run: Path, temperature: Temperature, labels: Sequence[str]) -> None:
    """Writes calibration.json into the run folder, whole or not at all."""
    write_json(run / FILE, temperature.to_dict() | {"classes": list(labels)})


def read_temperature(run: Path, labels: Sequence[str]) -> Temperature | None:
    """The run's temperature, None where none was fitted; RunError where the file is not about `labels`."""
    path = run / FILE
    values = read_fitted(path, labels)
    if values is None:
        return None
    try:
        return Temperature(str(values["split"]), above_zero(values["temperature"]))
    except (KeyError, ValueError) as error:
        raise RunError(f"{path}: not the calibration of a run ({error!r}); delete it or repeat the run") from error
