"""What a model predicts for one image: the answer of a server, of a run folder and of the Python API alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

SOFTMAX = "softmax"
"""The activation of a single-label model: its probabilities sum to 1."""
DEFAULT_THRESHOLD = 0.5
"""Probability from which on a label of a multi-label model counts as seen."""


@dataclass(frozen=True)
class ScoredLabel:
    """A label and the probability, 0 to 1, that the image shows it."""

    label: str
    probability: float
    heat_map: FloatArray | None = field(default=None, compare=False, repr=False)
    """Where it was asked for: float32 [h, w], 0-1, which parts of the upright image speak for the label (Grad-CAM); the
    strongest cell is 1."""


@dataclass(frozen=True)
class Prediction:
    """The labels of one image, the most probable first."""

    labels: tuple[ScoredLabel, ...]
    """Empty if there is an error, or if no label reaches the requested threshold."""
    model: str
    """Name of the model; empty if the image was not sent to a server."""
    version: int | None = None
    """Servable version; None for a run folder, or if the image was not sent."""
    error: str | None = None
    """Why this image has no labels: one sentence that names it. None if there is no error."""
    activation: str = ""
    """sigmoid (labels are independent) or softmax (probabilities sum to 1); empty if unknown: servers before 0.4.0."""
    calibration: str = ""
    """platt or temperature: how the probabilities were calibrated; empty: they are the network's own."""
    embedding: FloatArray | None = field(default=None, compare=False, repr=False)
    """Where it was asked for: float32 [D], of length 1; similar images have large products."""

    @classmethod
    def from_probabilities(cls, probabilities: np.ndarray[tuple[int], np.dtype[np.floating]], classes: Sequence[str],
                           model: str, activation: str, top_k: int = 0,
                           heat_maps: FloatArray | None = None) -> Prediction:
        """The prediction that a network's output for one image means: float [classes], 0 to 1. top_k: how many labels
        to keep; 0 for all. heat_maps: [classes, h, w]."""
        order = (-probabilities).argsort(kind="stable")[:top_k or None]
        labels = tuple(ScoredLabel(classes[column], float(probabilities[column]),
                                   None if heat_maps is None else heat_maps[column]) for column in order)
        return cls(labels, model, activation=activation)

    def seen(self, threshold: float | None = None) -> tuple[ScoredLabel, ...]:
        """The labels that count as seen: those with at least `threshold`.

        Without a threshold: the most probable label of a softmax model, the labels from 0.5 on of any other.
        """
        if threshold is None and self.activation == SOFTMAX:
            return self.labels[:1]
        least = DEFAULT_THRESHOLD if threshold is None else threshold
        return tuple(scored for scored in self.labels if scored.probability >= least)

    def seen_rule(self, threshold: float | None = None) -> str:
        """How `seen` chooses, in words for a legend."""
        if threshold is None and self.activation == SOFTMAX:
            return "the most probable"
        return f"from {DEFAULT_THRESHOLD if threshold is None else threshold:.0%} on"
