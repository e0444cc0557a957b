"""From logits to probabilities: the one place that says what each task does, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Task

Floats = npt.NDArray[np.floating[Any]]


def sigmoid(logits: Floats) -> Floats:
    """Every class by itself, without overflow for any logit; same shape and dtype."""
    return np.exp(-np.logaddexp(logits.dtype.type(0), -logits))


def softmax(logits: Floats) -> Floats:
    """The classes, the last axis, against each other, without overflow for any logit; same shape and dtype."""
    return np.exp(log_softmax(logits))


def log_softmax(logits: Floats) -> Floats:
    """Its logarithm, exact where a probability has no more digits."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logarithms: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logarithms


def probabilities_of(logits: Floats, task: Task) -> Floats:
    """Logits [..., classes] → probabilities 0-1; of a single-label task a row's sum is 1."""
    return {"sigmoid": sigmoid, "softmax": softmax}[task.activation](logits)
