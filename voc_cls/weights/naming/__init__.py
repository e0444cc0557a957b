"""Naming schemes: what another library calls the tensors of TF-Slim's networks, and how it stores them.

A scheme is data: a table with a row for each kind of layer, written out for every block and unit of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from math import isqrt, prod
from typing import Literal

import numpy as np

from voc_cls.nets.registry import NetSpec, Normalisation
from voc_cls.weights.tensors import Array, Shape, TensorInfo, WeightFile

KERNEL = (0, 1, 2, 3)
"""Axes of a convolution in TF-Slim and Keras: height, width, input, output."""
OIHW = (3, 2, 0, 1)
"""Those axes in the order of PyTorch and ONNX: output, input, height, width."""
OUTPUT = 3
Kind = Literal["convolution", "unbiased", "depthwise", "dense", "norm"]
"""Of a layer. "unbiased": a convolution without biases in TF-Slim; "depthwise": with a filter for every channel;
"dense": a matrix elsewhere, a convolution there."""
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
KINDS: dict[Kind, tuple[str, ...]] = {"convolution": ("weights", "biases"), "unbiased": ("weights",),
                                      "depthwise": ("depthwise_weights",), "dense": ("weights", "biases"), "norm": NORM}
"""Kind of a layer → its variables in TF-Slim."""


@dataclass(frozen=True)
class Layout:
    """From TF-Slim's layout to another format's, and back. A tensor of a rank that does not fit stays as it is, so that
    a diff can show its shape. Nothing is computed with the values: both ways give views where they can."""

    axes: tuple[int, ...] = ()
    """The other format's axes, as positions in TF-Slim's; empty: the same."""
    grid: int = 0
    """Where the other format has a matrix: height and width of TF-Slim's kernel; 0: it has none. Its rows (or columns)
    are the kernel's three input axes in the order of `axes`, which is what differs in fc6 of VGG."""
    bgr: bool = False
    """Whether the other format's input channels are blue, green, red."""

    def from_slim(self, array: Array) -> Array:
        if array.ndim != len(self.axes or array.shape):
            return array
        array = array[:, :, ::-1] if self.bgr else array
        array = array.transpose(self.axes) if self.axes else array
        if not self.grid:
            return array
        shape = array.shape
        return array.reshape((shape[0], prod(shape[1:])) if self._output_first else (prod(shape[:-1]), shape[-1]))

    def to_slim(self, array: Array) -> Array:
        """The inverse of `from_slim`."""
        if self.grid:
            if array.ndim != 2:
                return array
            outputs, inputs = array.shape if self._output_first else array.shape[::-1]
            if inputs % self.grid**2:
                return array
            kernel = (self.grid, self.grid, inputs // self.grid**2, outputs)
            array = array.reshape([kernel[axis] for axis in self.axes])
        if array.ndim != len(self.axes or array.shape):
            return array
        array = array.transpose(np.argsort(self.axes)) if self.axes else array
        return array[:, :, ::-1] if self.bgr else array

    def slim_shape(self, shape: Shape) -> Shape:
        """TF-Slim's shape of a tensor that has `shape` in the other format."""
        return self.to_slim(np.broadcast_to(np.uint8(0), shape)).shape

    @property
    def _output_first(self) -> bool:
        return self.axes[0] == OUTPUT


@dataclass(frozen=True)
class TensorMapping:
    """One tensor: its name in TF-Slim, in the other library, and how it lies there."""

    slim: str
    """With the network's scope: vgg_16/conv1/conv1_1/weights."""
    foreign: str
    layout: Layout
    folded: str = ""
    """Of a moving mean: the bias of the convolution before, which Keras' ResNets have and TF-Slim's do not. It is
    subtracted from the mean on the way in, which is the same function, and is 0 on the way out."""

    def info(self, tensors: Mapping[str, TensorInfo]) -> TensorInfo:
        """TF-Slim's shape, and the dtype, of this tensor in a file that has `tensors`."""
        return TensorInfo(self.layout.slim_shape(tensors[self.foreign].shape), tensors[self.foreign].dtype)

    def read(self, file: WeightFile) -> Array:
        """This tensor of an opened file as TF-Slim has it; it may be a view of what the file gave."""
        value = self.layout.to_slim(file.read(self.foreign))
        if not self.folded or self.folded not in file.tensors:
            return value
        bias = file.read(self.folded)
        return value - bias if bias.shape == value.shape and bias.any() else value

    def to_foreign(self, value: Array) -> dict[str, Array]:
        """Name in the other library → its array, for TF-Slim's `value`."""
        written = {self.foreign: self.layout.from_slim(value)}
        if self.folded:
            written[self.folded] = np.zeros_like(value)
        return written


@dataclass(frozen=True)
class NamingScheme:
    """The names of one library."""

    name: str
    """"keras", "torchvision", "npz": for a person."""
    normalisation: Normalisation
    """What the images went through that its weights were trained with; "auto": as TF-Slim's."""
    recognise: Callable[[Iterable[str]], str | None]
    """Names of a file → the network that they are of (nets/registry.py); None: of another library. WeightsError for a
    network that is known and has no counterpart here."""
    mappings: Callable[[NetSpec, Mapping[str, TensorInfo]], tuple[TensorMapping, ...]]
    """The tensors among `tensors`, which are a file's under its own names (in) or under TF-Slim's (out), in the order
    of the network's layers and their variables."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Family → one sentence where the same values do not make the same function."""
    marks: Collection[str] = ()
    """Tensors that a network is known by also where all its names have a prefix."""


@dataclass(frozen=True)
class LayerName:
    """A layer's scope in TF-Slim (below the network's) and its name in the other library. {block} and {unit} count from
    1, {stage} is block + 1, {stage_index} is block - 1, {index} is unit - 1, {letter} is a for unit 1, and {feature} is
    the place of a convolution of VGG where activations and poolings are counted too."""

    slim: str
    foreign: str
    kind: Kind
    folds: str = ""
    """"norm": the layer whose bias its moving mean takes in (`TensorMapping.folded`)."""

    def at(self, block: int, unit: int, before: int) -> LayerName:
        """This row for one unit; `before` is the number of units in the blocks before."""
        place = {"block": block, "unit": unit, "stage": block + 1, "stage_index": block - 1, "index": unit - 1,
                 "letter": chr(ord("a") + unit - 1), "feature": 2 * (before + unit - 1) + block - 1}
        return LayerName(self.slim.format(**place), self.foreign.format(**place), self.kind,
                         self.folds.format(**place))


def marked(marks: Mapping[str, str], names: Iterable[str]) -> str | None:
    """The network of the first of the `marks` (tensor or layer → network) that is among the names."""
    known = set(names)
    return next((net for mark, net in marks.items() if mark in known), None)


def layers(table: Iterable[LayerName], spec: NetSpec) -> list[LayerName]:
    """Every layer of `spec`, in the order of `table`; rows of units that follow one another are written out together,
    unit by unit, as the layers follow one another in the network."""
    units = [(block, unit, sum(units for _, units in spec.blocks[:block - 1]))
             for block, (_, units) in enumerate(spec.blocks, 1) for unit in range(1, units + 1)]
    named: list[LayerName] = []
    for repeated, group in groupby(table, lambda row: "{block}" in row.slim):
        rows = list(group)
        named += [row.at(*unit) for unit in units for row in rows] if repeated else rows
    return named


def normalised(slim: str, convolution: str, norm: str, folds: bool = False) -> tuple[LayerName, LayerName]:
    """A convolution without biases and the batch normalisation behind it, which `folds` the other library's biases."""
    return (LayerName(slim, convolution, "unbiased"),
            LayerName(f"{slim}/BatchNorm", norm, "norm", folds=convolution if folds else ""))


def vgg_layers(convolution: str, fc6: str, fc7: str, fc8: str) -> tuple[LayerName, ...]:
    """VGG's layers, by their names in the other library; our classifier keeps its name."""
    return (LayerName("conv{block}/conv{block}_{unit}", convolution, "convolution"), LayerName("fc6", fc6, "dense"),
            LayerName("fc7", fc7, "dense"), LayerName("fc8", fc8, "dense"), LayerName("m_fc8", "m_fc8", "dense"))


def map_tensors(spec: NetSpec, table: Iterable[LayerName], tensors: Mapping[str, TensorInfo],
                variables: Mapping[str, str], axes: tuple[int, ...] = KERNEL,
                bgr: Collection[str] = ()) -> tuple[TensorMapping, ...]:
    """The mappings of `spec`, whose layers are `table`, without what `tensors` lacks (under either library's names).

    `variables`: TF-Slim's variable → what follows a layer's name in the other library, such as "/kernel". `axes`: that
    library's order of a kernel's axes. `bgr`: TF-Slim's scopes of layers whose input is blue, green, red there.
    """
    mappings = []
    for layer in layers(table, spec):
        for variable in KINDS[layer.kind]:
            slim, foreign = spec.path(f"{layer.slim}/{variable}"), f"{layer.foreign}{variables[variable]}"
            if slim not in tensors and foreign not in tensors:
                continue
            layout = Layout()
            if variable == "weights" and layer.kind == "dense":
                if layer.slim not in spec.matrices:
                    grid = _grid(slim, foreign, tensors, axes, spec.blocks[-1][0]) if layer.slim == "fc6" else 1
                    layout = Layout(axes, grid)
            elif variable == "weights":
                layout = Layout(axes, bgr=layer.slim in bgr)
            folded = f"{layer.folds}{variables['biases']}" if layer.folds and variable == "moving_mean" else ""
            mappings.append(TensorMapping(slim, foreign, layout, folded))
    return tuple(mappings)


def _grid(slim: str, foreign: str, tensors: Mapping[str, TensorInfo], axes: tuple[int, ...], channels: int) -> int:
    """Height and width of a dense layer's kernel in TF-Slim, for `Layout.grid`: from TF-Slim's own shape, or from the
    matrix, whose inputs come from a grid of `channels` channels; 1 where neither fits."""
    if slim in tensors:
        shape = tensors[slim].shape
        return max(1, shape[0]) if len(shape) == len(axes) else 1
    shape = tensors[foreign].shape
    inputs = shape[1 if axes[0] == OUTPUT else 0] if len(shape) == 2 else 0
    side = isqrt(inputs // channels)
    return side if side and side * side * channels == inputs else 1
