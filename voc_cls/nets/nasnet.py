"""NASNet-A (Zoph et al. 2017, arXiv:1707.07012), mobile and large, as TF-Slim's nets/nasnet has them for ImageNet.

A cell sees what left the last two cells. Five times it adds the results of two operations, each on one of its states:
0 is the last cell's output and 1 that of the cell before, both brought to the cell's filters, and 2 … 6 are the sums.
The auxiliary classifier and the dropped paths of TF-Slim's training are left out: they helped to train on ImageNet.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from keras import KerasTensor as Tensor

from voc_cls.nets import layers
from voc_cls.nets.layers import Backbone, Norm
from voc_cls.nets.registry import NetSpec

NORM = Norm(decay=0.9997, epsilon=1e-3, gamma=True)  # nasnet_mobile_arg_scope and nasnet_large_arg_scope
DROPOUT = 0.5  # dense_dropout_keep_prob

Operand = tuple[str, int]
"""An operation and the state that it takes; "" takes the state as it is."""


@dataclass(frozen=True)
class Cell:
    """The pairs whose results are added, the states that are concatenated to the output, and the stride on 0 and 1."""

    pairs: tuple[tuple[Operand, Operand], ...]
    outputs: tuple[int, ...]
    stride: int


NORMAL = Cell((  # nasnet_utils.NasNetANormalCell
    (("separable_5x5", 0), ("separable_3x3", 1)),
    (("separable_5x5", 1), ("separable_3x3", 1)),
    (("avg_pool_3x3", 0), ("", 1)),
    (("avg_pool_3x3", 1), ("avg_pool_3x3", 1)),
    (("separable_3x3", 0), ("", 0)),
), outputs=(1, 2, 3, 4, 5, 6), stride=1)
REDUCTION = Cell((  # nasnet_utils.NasNetAReductionCell
    (("separable_5x5", 0), ("separable_7x7", 1)),
    (("max_pool_3x3", 0), ("separable_7x7", 1)),
    (("avg_pool_3x3", 0), ("separable_5x5", 1)),
    (("", 3), ("avg_pool_3x3", 2)),
    (("separable_3x3", 2), ("max_pool_3x3", 0)),
), outputs=(3, 4, 5, 6), stride=2)


def backbone(spec: NetSpec, images: Tensor, dtype: str) -> Backbone:
    """conv0, the stem's two reducing cells, and three rows of normal cells with a reducing cell between them."""
    (stem, _), *rows = spec.blocks
    skips = spec.name == "nasnet_large"  # skip_reduction_layer_input
    narrow = rows[0][0]
    cells = [("cell_stem_0", REDUCTION, narrow // 4, 2), ("cell_stem_1", REDUCTION, narrow // 2, 2)]
    numbers = itertools.count()
    for row, (filters, count) in enumerate(rows):
        if row:
            cells.append((f"reduction_cell_{row - 1}", REDUCTION, filters, 2))
        cells += [(f"cell_{next(numbers)}", NORMAL, filters, 3 if row and skips and not place else 2)
                  for place in range(count)]

    x = layers.conv(images, "conv0", stem, (3, 3), 2, "valid", bias=None, relu=False, dtype=dtype)
    entries: dict[str, Tensor | None] = {"conv0": images, "conv0_bn": x}
    x = layers.batch_norm(x, "conv0_bn", NORM, dtype, relu=False)
    entries["cell_stem_0"] = x
    outputs = [None, x]
    for path, cell, filters, back in cells:  # `back`: which output is that of the cell before, counted from the end
        entries.setdefault(path)
        outputs.append(_cell(cell, outputs[-1], outputs[-back], path, filters, dtype))
    x = layers.rectified(outputs[-1], "final_layer", dtype)
    return Backbone(x, x, entries)


def _cell(cell: Cell, x: Tensor, before: Tensor | None, path: str, filters: int, dtype: str) -> Tensor:
    states = [_projected(x, f"{path}/1x1", f"{path}/beginning_bn", filters, dtype),
              x if before is None else _fitted(before, x, path, filters, dtype)]
    for number, pair in enumerate(cell.pairs):
        left, right = (_operation(states[state], f"{path}/comb_iter_{number}/{side}", operation, filters,
                                  cell.stride if state < 2 else 1, dtype)
                       for side, (operation, state) in zip(("left", "right"), pair, strict=True))
        states.append(layers.add(left, right, f"{path}/comb_iter_{number}/combine", dtype, relu=False))
    return layers.concatenate([states[output] for output in cell.outputs], f"{path}/cell_output", dtype)


def _fitted(before: Tensor, x: Tensor, path: str, filters: int, dtype: str) -> Tensor:
    """What left the cell before, with the grid of `x` and this many channels."""
    if before.shape[2] != x.shape[2]:  # nasnet_utils.factorized_reduction: every second place, and those between them
        before = layers.rectified(before, f"{path}/path", dtype)
        between = layers.shifted(before, f"{path}/path2", dtype)
        halves = [layers.conv(half, f"{path}/path{number}_conv", filters // 2, (1, 1), 2, relu=False, bias=None,
                              dtype=dtype) for number, half in ((1, before), (2, between))]
        both = layers.concatenate(halves, f"{path}/path", dtype)
        return layers.batch_norm(both, f"{path}/final_path_bn", NORM, dtype, relu=False)
    if before.shape[-1] != filters:
        return _projected(before, f"{path}/prev_1x1", f"{path}/prev_bn", filters, dtype)
    return before


def _projected(x: Tensor, path: str, norm: str, filters: int, dtype: str) -> Tensor:
    """A ReLU, a 1 × 1 convolution and batch normalisation: the order of all convolutions here."""
    x = layers.conv(layers.rectified(x, path, dtype), path, filters, (1, 1), relu=False, bias=None, dtype=dtype)
    return layers.batch_norm(x, norm, NORM, dtype, relu=False)


def _operation(x: Tensor, path: str, operation: str, filters: int, stride: int, dtype: str) -> Tensor:
    if not operation:
        return x
    kind, _, kernel = operation.rpartition("_")
    size = int(kernel[0])
    if kind != "separable":
        pool = layers.max_pool if kind == "max_pool" else layers.mean_pool
        return pool(x, f"{path}/{operation}", size, stride, dtype)
    for number in (1, 2):
        name = f"{kernel}_{number}"
        x = layers.rectified(x, f"{path}/separable_{name}", dtype)
        x = layers.separable(x, f"{path}/separable_{name}", filters, (size, size), stride if number == 1 else 1, 1,
                             dtype, relu=False)
        x = layers.batch_norm(x, f"{path}/bn_sep_{name}", NORM, dtype, relu=False)
    return x
