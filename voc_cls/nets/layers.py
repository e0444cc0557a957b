"""What the architectures are written in: a family says once what follows what, for Keras and for bare shapes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Features = TypeVar("Features")
Padding = Literal["same", "valid", "symmetric"]
Kernel = tuple[int, int]


@dataclass(frozen=True)
class Norm:
    """Batch normalisation of a family, from the argument scope of its module in tf_slim.nets."""

    decay: float
    """Of the moving mean and variance, per step."""
    epsilon: float
    gamma: bool
    """Whether there is a factor; a ReLU before the next convolution can do without."""


class Layers(ABC, Generic[Features]):
    """Makes layers under TF-Slim's names: `path` is below the network's scope, such as conv1/conv1_1 or postnorm.

    `Features` is what goes from layer to layer: a Keras tensor (keras_layers.py) or a number of channels (shapes.py).
    """

    @abstractmethod
    def channels(self, features: Features) -> int:
        """Number of channels."""

    @abstractmethod
    def conv(self, features: Features, path: str, filters: int, kernel: Kernel, *, stride: int = 1,
             padding: Padding = "same", norm: bool = False, relu: bool = True) -> Features:
        """A convolution with a bias or, with `norm`, batch normalisation, and a ReLU.

        padding: "same" and "valid" are TensorFlow's. "symmetric" is tf_slim.nets.resnet_utils.conv2d_same's: as much
        on either side, whatever the stride.
        """

    @abstractmethod
    def separable(self, features: Features, path: str, filters: int, kernel: Kernel, *, multiplier: int,
                  stride: int) -> Features:
        """`multiplier` filters for every channel, then a 1 × 1 convolution with a bias and a ReLU."""

    @abstractmethod
    def norm(self, features: Features, path: str) -> Features:
        """Batch normalisation and a ReLU."""

    @abstractmethod
    def pool(self, features: Features, path: str, kind: Literal["max", "mean"], size: int, *, stride: int,
             padding: Padding = "same") -> Features:
        """The maximum or mean over size × size places; a mean leaves out what is beyond the border."""

    @abstractmethod
    def add(self, shortcut: Features, residual: Features, path: str, *, relu: bool) -> Features:
        """The sum of two tensors of one shape, with a ReLU or without."""

    @abstractmethod
    def concatenate(self, branches: Sequence[Features], path: str) -> Features:
        """The channels of all branches, one after the other."""

    @abstractmethod
    def dropout(self, features: Features, path: str, rate: float) -> Features:
        """In training, sets a share of `rate` to 0 and scales the rest up."""

    @abstractmethod
    def grid_mean(self, features: Features) -> Features:
        """The mean over the whole grid, which becomes 1 × 1."""

    def enter(self, scope: str, features: Features) -> None:
        """Notes that `features` enter the top-level scope `scope`: there the network can be cut."""

    def last_grid(self, features: Features) -> None:
        """Notes the last grid of features: what Grad-CAM looks at."""
