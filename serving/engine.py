"""What the server asks of an engine: the two computations of a picture's way, whatever library does them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Inputs = npt.NDArray[np.float32]
"""Preprocessed pictures, float32 [N, size, size, 3]; the exact scale is the model's own affair."""


@dataclass(frozen=True)
class Scores:
    """What the network says of N pictures: two float32 arrays [N, C], columns in the order of the labels."""

    probabilities: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]

    def __getitem__(self, rows: slice) -> Scores:
        return Scores(self.probabilities[rows], self.logits[rows])


class UndecodablePicture(ValueError):
    """The engine's decoder refused a picture; the message says why, without the decoder's own stack."""


class Engine(Protocol):
    """One loaded version of a model. All methods block; none is called on the event loop."""

    @property
    def description(self) -> str:
        """Library, device, precision and threads, for the startup line."""

    def decode(self, content: bytes) -> Inputs:
        """The bytes of one picture file → float32 [size, size, 3]. Called from several threads at a time.

        Raises UndecodablePicture.
        """

    def resize(self, image: npt.NDArray[np.uint8]) -> Inputs:
        """One decoded picture, uint8 [H, W, 3] RGB → float32 [size, size, 3]. Called from several threads at a time."""

    def predict(self, inputs: Inputs) -> Scores:
        """A batch through the network. Called from one thread only."""

    def close(self) -> None:
        """Gives the memory back; nothing else is called afterwards."""
