"""Name maps as data: a line for each kind of layer, written out for every block and unit of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Literal

from voc_cls.nets.registry import NetSpec
from voc_cls.weights.naming.layout import OUTPUT, Layout
from voc_cls.weights.tensors import TensorInfo

Kind = Literal["convolution", "unbiased", "dense", "norm"]
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


@dataclass(frozen=True)
class Line:
    """A layer's scope in TF-Slim (below the network's) and its name in the other library. {block} and {unit} count from
    1, {stage} is block + 1, {index} is unit - 1, {letter} is a for unit 1, and {feature} is the place of a convolution
    of VGG where activations and poolings are counted too."""

    slim: str
    foreign: str
    kind: Kind
    """"unbiased": a convolution without biases in TF-Slim; "dense": a matrix there, a convolution in TF-Slim."""
    folds: str = ""
    """"norm": the layer whose bias its moving mean takes in (`Row.folded`)."""

    def written_out(self, spec: NetSpec) -> list[Line]:
        """This line for every block and unit, or itself where it has no {block}."""
        if "{block}" not in self.slim:
            return [self]
        before = [sum(units for _, units in spec.blocks[:number]) for number in range(len(spec.blocks))]
        places = [{"block": block, "unit": unit, "stage": block + 1, "index": unit - 1,
                   "letter": chr(ord("a") + unit - 1), "feature": 2 * (before[block - 1] + unit - 1) + block - 1}
                  for block, (_, units) in enumerate(spec.blocks, 1) for unit in range(1, units + 1)]
        return [Line(self.slim.format(**place), self.foreign.format(**place), self.kind, self.folds.format(**place))
                for place in places]


def layers(table: tuple[Line, ...], spec: NetSpec) -> list[Line]:
    """Every layer of `spec`, in the order of `table`; lines of units that follow one another are written out together,
    unit by unit, as the layers follow one another in the network."""
    found: list[Line] = []
    together: list[list[Line]] = []
    for line in (*table, None):
        if line is not None and "{block}" in line.slim:
            together.append(line.written_out(spec))
            continue
        found.extend(layer for unit in zip(*together, strict=True) for layer in unit)
        together = []
        if line is not None:
            found.append(line)
    return found


def dense_grid(slim: str, foreign: str, tensors: Mapping[str, TensorInfo], axes: tuple[int, ...],
               channels: int) -> int:
    """Height and width of a dense layer's kernel in TF-Slim, for `Layout.grid`: from TF-Slim's own shape, or from the
    matrix, whose inputs come from a grid of `channels` channels; 1 where neither fits."""
    if slim in tensors:
        return max(1, tensors[slim].shape[0] if len(tensors[slim].shape) == len(axes) else 1)
    shape = tensors[foreign].shape if foreign in tensors else ()
    inputs = shape[1 if axes[0] == OUTPUT else 0] if len(shape) == 2 else 0
    side = isqrt(inputs // channels)
    return side if side and side * side * channels == inputs else 1


def layout(kind: Kind, variable: str, axes: tuple[int, ...], grid: int = 1, bgr: bool = False) -> Layout:
    """The layout of a layer's `variable` where kernels have the order `axes`."""
    if variable != "weights":
        return Layout()
    return Layout(axes, grid) if kind == "dense" else Layout(axes, bgr=bgr)
