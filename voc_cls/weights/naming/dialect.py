"""A dialect: what another library calls the tensors of TF-Slim's networks, and how it stores them.

    in     `row.read(file)` gives TF-Slim's tensor, `row.info(file.tensors)` its shape and dtype
    out    `row.outgoing(info, read)` gives what to write for TF-Slim's tensor
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from voc_cls.nets.registry import NetSpec, Normalisation
from voc_cls.weights.naming.layout import Layout
from voc_cls.weights.tensors import Array, Outgoing, TensorInfo, WeightFile


@dataclass(frozen=True)
class Row:
    """One tensor: its name in TF-Slim, in the other library, and how it lies there."""

    slim: str
    """With the network's scope: vgg_16/conv1/conv1_1/weights."""
    foreign: str
    layout: Layout
    folded: str = ""
    """Of a moving mean: the bias of the convolution before, which Keras' ResNets have and TF-Slim's do not. It is
    subtracted from the mean on the way in, which is the same function, and is 0 on the way out."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor of the other format that goes into this one."""
        return (self.foreign, self.folded) if self.folded else (self.foreign,)

    def info(self, tensors: Mapping[str, TensorInfo]) -> TensorInfo:
        """TF-Slim's shape, and the dtype, of this tensor in a file that has `tensors`."""
        found = tensors[self.foreign]
        return TensorInfo(self.layout.slim_shape(found.shape), found.dtype)

    def read(self, file: WeightFile) -> Array:
        """This tensor of an opened file as TF-Slim has it; it may be a view of what the file gave."""
        value = self.layout.to_slim(file.read(self.foreign))
        if not self.folded or self.folded not in file.tensors:
            return value
        bias = file.read(self.folded)
        return value - bias if bias.shape == value.shape and bias.any() else value

    def outgoing(self, info: TensorInfo, read: Callable[[], Array]) -> list[Outgoing]:
        """What to write for TF-Slim's tensor of `info`, which `read` gives. The arrays are views: they have the values
        in the order of the file, and perhaps more axes than the shape that goes with them."""
        foreign = TensorInfo(self.layout.foreign_shape(info.shape), info.dtype)
        written = [Outgoing(self.foreign, foreign, lambda: self.layout.arranged(read()))]
        if self.folded:
            written.append(Outgoing(self.folded, foreign, lambda: np.zeros_like(read())))
        return written


def _same(_: NetSpec) -> str:
    return ""


@dataclass(frozen=True)
class Dialect:
    """The names of one library."""

    name: str
    """"keras", "torchvision", "npz": for a person."""
    normalisation: Normalisation
    """What the pictures went through that its weights were trained with; "auto": as TF-Slim's own."""
    recognise: Callable[[Iterable[str]], str | None]
    """Names of a file → the network that they are of (nets/registry.py); None: of another library. WeightsError for a
    network that is known and has no counterpart here."""
    rows: Callable[[NetSpec, Mapping[str, TensorInfo]], tuple[Row, ...]]
    """The tensors among `tensors`, which are a file's under its own names (in) or under TF-Slim's (out)."""
    note: Callable[[NetSpec], str] = _same
    """One sentence where the same values do not make the same function; empty where they do."""
