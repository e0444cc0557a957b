"""What the server asks of whatever computes: a decoder of pictures, and an engine for batches of them."""

from __future__ import annotations

from collections.abc import Sequence
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


class ImageDecodeError(ValueError):
    """The decoder refused a picture; the message says why, without the decoder's own stack."""


class EngineLost(Exception):
    """The engine has ended and will compute nothing more."""


class Decoder(Protocol):
    """A version's own preprocessing. Its methods block and are called from several threads at a time."""

    def decode(self, content: bytes) -> Inputs:
        """The bytes of one picture file → float32 [size, size, 3]. Raises UndecodablePicture."""

    def resize(self, image: npt.NDArray[np.uint8]) -> Inputs:
        """One decoded picture, uint8 [H, W, 3] RGB → float32 [size, size, 3]."""

    def close(self) -> None:
        """Gives the memory back; nothing else is called afterwards."""


class Engine(Protocol):
    """A version's network. Its methods block."""

    @property
    def description(self) -> str:
        """Library, device, precision and threads, for the startup line."""

    def predict(self, inputs: Sequence[Inputs]) -> Scores:
        """Pictures, each float32 [size, size, 3], through the network. Called from one thread only.

        Raises EngineLost.
        """

    def close(self) -> None:
        """Gives the memory back; nothing else is called afterwards."""
