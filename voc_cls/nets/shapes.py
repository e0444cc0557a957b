"""Every variable of a network as TF-Slim has it, name and shape, without TensorFlow or Keras."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from voc_cls.nets.architectures import ARCHITECTURES
from voc_cls.nets.inception_tables import V3_AUXILIARY
from voc_cls.nets.layers import Kernel, Layers, Padding
from voc_cls.nets.registry import NetSpec

Shape = tuple[int, ...]
STATISTICS = ("moving_mean", "moving_variance")
"""Last words of variables that no gradient trains."""


def slim_shapes(spec: NetSpec, classes: int | None = None) -> dict[str, Shape]:
    """TF-Slim name → shape of all variables of TF-Slim's network with `classes` logits (default: its ImageNet's).

    The classifier is TF-Slim's (`spec.slim_head`), and Inception v3 has its auxiliary one (AuxLogits).
    """
    logits, architecture = classes or spec.imagenet_classes, ARCHITECTURES[spec.family]
    shapes = _Shapes(spec)
    features = architecture.head(shapes, spec, architecture.trunk(shapes, spec, 3))
    shapes.conv(features, spec.slim_head, logits, (1, 1))
    if spec.family == "inception_v3":
        features = 768
        for name, filters, kernel in V3_AUXILIARY:
            features = shapes.conv(features, f"AuxLogits/{name}", filters, kernel, norm=True)
        shapes.conv(features, "AuxLogits/Conv2d_2b_1x1", logits, (1, 1))
    return shapes.found


def parameters(shapes: dict[str, Shape]) -> int:
    """Number of values that training changes by gradient: all but moving means and variances."""
    return sum(prod(shape) for name, shape in shapes.items() if not name.endswith(STATISTICS))


class _Shapes(Layers[int]):
    """Follows the number of channels and writes down what each layer has."""

    def __init__(self, spec: NetSpec) -> None:
        self.found: dict[str, Shape] = {}
        self._scope = spec.scope
        self._norm = ARCHITECTURES[spec.family].norm

    def _note(self, path: str, shape: Shape) -> None:
        self.found[f"{self._scope}/{path}"] = shape

    def channels(self, features: int) -> int:
        return features

    def conv(self, features: int, path: str, filters: int, kernel: Kernel, *, stride: int = 1,  # noqa: ARG002
             padding: Padding = "same", norm: bool = False, relu: bool = True) -> int:  # noqa: ARG002
        self._note(f"{path}/weights", (*kernel, features, filters))
        if norm:
            return self.norm(filters, f"{path}/BatchNorm")
        self._note(f"{path}/biases", (filters,))
        return filters

    def separable(self, features: int, path: str, filters: int, kernel: Kernel, *, multiplier: int,
                  stride: int) -> int:  # noqa: ARG002
        self._note(f"{path}/depthwise_weights", (*kernel, features, multiplier))
        self._note(f"{path}/pointwise_weights", (1, 1, features * multiplier, filters))
        self._note(f"{path}/biases", (filters,))
        return filters

    def norm(self, features: int, path: str) -> int:
        assert self._norm is not None  # a family that normalises says how
        for word in (*(("gamma",) if self._norm.gamma else ()), "beta", *STATISTICS):
            self._note(f"{path}/{word}", (features,))
        return features

    def pool(self, features: int, path: str, kind: Literal["max", "mean"], size: int, *, stride: int,  # noqa: ARG002
             padding: Padding = "same") -> int:  # noqa: ARG002
        return features

    def add(self, shortcut: int, residual: int, path: str, *, relu: bool) -> int:  # noqa: ARG002
        return residual

    def concatenate(self, branches: Sequence[int], path: str) -> int:  # noqa: ARG002
        return sum(branches)

    def dropout(self, features: int, path: str, rate: float) -> int:  # noqa: ARG002
        return features

    def grid_mean(self, features: int) -> int:
        return features
