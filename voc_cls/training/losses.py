"""The losses, on logits, with ignored entries left out."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from voc_cls.data.dataset import IGNORED


@keras.saving.register_keras_serializable("voc_cls")
class SigmoidCrossEntropy(keras.losses.Loss):  # type: ignore[misc]
    """Mean over the entries that count of `max(z, 0) - z·t + log(1 + exp(-|z|))`, for logits z and targets t.

    y_true: [N, classes], 1 positive, 0 negative, IGNORED (-1) neither. y_pred: logits, any float dtype. The value is
    the lecture's `-t·log(σ(z)) - (1-t)·log(1-σ(z))` without its `+ 1e-8`, exact at both ends. A batch in which nothing
    counts has loss 0.
    """

    def __init__(self, name: str = "sigmoid_cross_entropy", **options: Any) -> None:
        super().__init__(name=name, reduction="sum", **options)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Each picture's share of the batch's mean, [N]."""
        counts = ops.cast(ops.not_equal(y_true, IGNORED), y_pred.dtype)
        losses = ops.binary_crossentropy(ops.maximum(y_true, 0.0), y_pred, from_logits=True) * counts
        return ops.sum(losses, axis=-1) / ops.maximum(ops.sum(counts), 1.0)
