"""Which labels of a picture are worth answering, and in what order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.errors import InvalidArgument
from serving.models.metadata import ModelMetadata

SOFTMAX = "softmax"
"""The activation under which the probabilities of a picture's labels sum to 1."""


@dataclass(frozen=True)
class Selection:
    """What a caller wants of each picture."""

    top_k: int = 0
    """The most probable ones, at most so many; 0: all."""
    thresholds: npt.NDArray[np.float32] | float = 0.0
    """Least probability of a label, of all together or of each column."""

    def of(self, probabilities: npt.NDArray[np.float32]) -> Iterator[int]:
        """Columns of float32 [C], the most probable first, equally probable ones in their own order."""
        passing = probabilities >= np.float32(self.thresholds)
        order = np.argsort(-probabilities, kind="stable")
        return (int(column) for column in order[passing[order]][:self.top_k or None])


def by_threshold(top_k: int, threshold: float) -> Selection:
    """Labels from a probability on; InvalidArgument if it is none, NaN included."""
    if not 0 <= threshold <= 1:
        raise InvalidArgument(f"threshold {threshold:g} is no probability: send one from 0 to 1, or none for all "
                              f"labels")
    return Selection(top_k, threshold)


def by_exported_thresholds(top_k: int, metadata: ModelMetadata) -> Selection:
    """Labels that reach the thresholds that came with the model; InvalidArgument if one has none.

    A softmax model has none: its one answer is the most probable label, which is not a matter of thresholds.
    """
    if metadata.activation == SOFTMAX and not metadata.thresholds:
        raise InvalidArgument("exported_thresholds: this model tells one label a picture (softmax) and has no "
                              "thresholds: "
                          "send top_k 1 for that label, or a threshold of your own")
    missing = [label for label in metadata.labels if label not in metadata.thresholds]
    if missing:
        of = "any label" if len(missing) == len(metadata.labels) else f"the label '{missing[0]}'"
        raise InvalidArgument(f"exported_thresholds: this model was exported without a threshold for {of}: send a "
                          "threshold of your own")
    return Selection(top_k, np.array([metadata.thresholds[label] for label in metadata.labels], np.float32))
