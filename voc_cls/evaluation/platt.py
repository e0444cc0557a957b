"""Platt's logistic regression on one logit: what calibration and thresholds are both made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voc_cls.errors import RunError
from voc_cls.evaluation.multilabel import Bools
from voc_cls.evaluation.probabilities import Floats

LEAST_POSITIVES = 10
"""Of a class in the validation split, and negatives too, for a line of its own."""


@dataclass(frozen=True)
class Line:
    """Calibrated logit = slope × logit + offset."""

    slope: float
    offset: float


def fit_line(truth: Bools, logits: Floats, offset: bool = True) -> Line:
    """Fits [entries] by scikit-learn's logistic regression, without an offset if told so; `truth` needs both kinds.

    The targets are Platt's (1999): (n + 1) / (n + 2) for n positives, 1 / (m + 2) for m negatives. They keep the fit
    finite on separable data. Every entry is there as a positive and as a negative, weighted by its target.
    """
    from sklearn.linear_model import LogisticRegression

    positives, negatives = int(truth.sum()), int((~truth).sum())
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scores = np.concatenate([logits, logits]).astype(np.float64)[:, None]
    model = LogisticRegression(C=np.inf, fit_intercept=offset, tol=1e-6, max_iter=1000)
    model.fit(scores, np.repeat([1, 0], len(logits)), sample_weight=np.concatenate([target, 1 - target]))
    return Line(float(model.coef_[0, 0]), float(model.intercept_[0]) if offset else 0.0)


def fit_class_line(truth: Bools, logits: Floats) -> Line | None:
    """A class's own line; None where it is too rare for one, or ranked worse than by chance."""
    if min(truth.sum(), (~truth).sum()) < LEAST_POSITIVES:
        return None
    line = fit_line(truth, logits)
    return line if line.slope > 0 else None


def read_fitted(path: Path, labels: Sequence[str]) -> dict[str, Any] | None:
    """A JSON file whose "classes", keys or a list, are `labels` in their order; None where there is none."""
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); delete it or repeat the run") from error
    classes = values.get("classes") if isinstance(values, dict) else None
    if not isinstance(values, dict) or not isinstance(classes, dict | list) or list(classes) != list(labels):
        raise RunError(f"{path}: its classes are not those of the run's labels.txt; delete it or repeat the run")
    return values
