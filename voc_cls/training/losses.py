"""The losses, on logits: of every class by itself with ignored entries left out, or of one class against the others."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from voc_cls.data.dataset import IGNORED, Dataset, Task
from voc_cls.training.config import LossConfig

ASYMMETRIC_GAMMA = 4.0
ASYMMETRIC_MARGIN = 0.05
"""Exponent of the negatives and probability below which they count nothing: Ridnik et al. 2021, section 3."""


def cross_entropy(targets: Any, logits: Any) -> Any:
    """`max(z, 0) - z·t + log(1 + exp(-|z|))`: the lecture's `-t·log(σ(z)) - (1-t)·log(1-σ(z))`, exact at both ends."""
    return ops.binary_crossentropy(targets, logits, from_logits=True)


def focal(gamma: float) -> Any:
    """`(1 - p)^γ` times the cross-entropy, p the probability given to what is true (Lin et al. 2017, equation 4)."""
    def losses(targets: Any, logits: Any) -> Any:
        probabilities = ops.sigmoid(logits)
        missed = targets * (1 - probabilities) + (1 - targets) * probabilities
        return ops.power(ops.maximum(missed, 1e-7), gamma) * cross_entropy(targets, logits)  # 0^γ has no gradient

    return losses


def asymmetric(targets: Any, logits: Any) -> Any:
    """Positives: cross-entropy. Negatives: `-p_m^4·log(1 - p_m)` with `p_m = max(p - 0.05, 0)` (Ridnik et al. 2021)."""
    shifted = ops.maximum(ops.sigmoid(logits) - ASYMMETRIC_MARGIN, 0.0)
    negative = -ops.power(shifted, ASYMMETRIC_GAMMA) * ops.log(1 - shifted)
    return targets * -ops.log_sigmoid(logits) + (1 - targets) * negative


def squared_hinge(targets: Any, logits: Any) -> Any:
    """`max(0, 1 - y·z)²`, y from -1 to 1: that of a linear support vector machine (LinearSVC of scikit-learn)."""
    return ops.square(ops.maximum(1 - (2 * targets - 1) * logits, 0.0))


class MultiLabelLoss(keras.losses.Loss):  # type: ignore[misc]
    """Mean of a loss over all pictures and classes of a batch, where an ignored entry contributes 0.

    y_true: [N, classes], from 0 (negative) to 1 (positive), IGNORED (-1) neither. y_pred: logits, any float dtype. The
    divisor is the number of entries, ignored ones too, so that a batch spread over devices has the same gradient.
    weights: of a class's negatives and positives, [2, classes].
    """

    def __init__(self, losses: Any = cross_entropy, label_smoothing: float = 0.0,
                 weights: npt.NDArray[np.float32] | None = None) -> None:
        super().__init__()
        self.losses, self.label_smoothing, self.weights = losses, label_smoothing, weights

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Each picture's mean over its classes, [N]; Keras takes the mean over the pictures."""
        counts = ops.cast(ops.not_equal(y_true, IGNORED), y_pred.dtype)
        targets = ops.cast(ops.maximum(y_true, 0.0), y_pred.dtype)
        if self.weights is not None:
            negatives, positives = (ops.convert_to_tensor(row, y_pred.dtype) for row in self.weights)
            counts *= targets * positives + (1 - targets) * negatives
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        return ops.mean(self.losses(targets, y_pred) * counts, axis=-1)


class SingleLabelLoss(keras.losses.Loss):  # type: ignore[misc]
    """Mean over the pictures of a batch of `-Σ t·log(softmax(z))`.

    y_true: [N, classes], a row's sum is 1: one-hot, or the shares of two pictures that were mixed. y_pred: logits, any
    float dtype. weights: of a picture by its class, [classes]; a mixed picture has its share of each.
    """

    def __init__(self, label_smoothing: float = 0.0, weights: npt.NDArray[np.float32] | None = None) -> None:
        super().__init__()
        self.label_smoothing, self.weights = label_smoothing, weights

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Each picture's cross-entropy, [N]; Keras takes the mean over the pictures."""
        shares = ops.cast(y_true, y_pred.dtype)
        # Szegedy et al. 2016, section 7 (arXiv:1512.00567): mixed with the uniform distribution
        targets = shares * (1 - self.label_smoothing) + self.label_smoothing / y_pred.shape[-1]
        losses = ops.categorical_crossentropy(targets, y_pred, from_logits=True)
        if self.weights is None:
            return losses
        return losses * ops.sum(shares * ops.convert_to_tensor(self.weights, y_pred.dtype), axis=-1)


def build_loss(config: LossConfig, train: Dataset) -> MultiLabelLoss | SingleLabelLoss:
    """The loss that a resolved `config` names, for the task of `train`, whose labels give the class weights."""
    balanced = config.class_weights == "balanced"
    if train.task is Task.SINGLE_LABEL:
        return SingleLabelLoss(config.label_smoothing, balanced_weights(train.labels.sum(axis=0)) if balanced else None)
    positives = (train.labels == 1).sum(axis=0)
    weights = balanced_weights(np.stack([(~train.ignored).sum(axis=0) - positives, positives])) if balanced else None
    losses = {"sigmoid": cross_entropy, "focal": focal(config.focal_gamma), "asymmetric": asymmetric,
              "hinge": squared_hinge}[config.loss]
    return MultiLabelLoss(losses, config.label_smoothing, weights)


def balanced_weights(counts: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """n / (kinds × n of it) for counts [kinds, …], as scikit-learn's "balanced", over the kinds that occur; 1 for one
    that does not."""
    present = counts > 0
    weights = counts.sum(axis=0) / np.maximum(present.sum(axis=0) * counts, 1)
    return np.where(present, weights, 1.0).astype(np.float32)
