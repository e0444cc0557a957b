"""ResNet v1 (He et al. 2015, arXiv:1512.03385) and v2 (arXiv:1603.05027), as tf_slim.nets.resnet_v1 and _v2 have them.

The stride of a block is in its last unit, where the papers and torchvision have it in the first of the next.
"""

from __future__ import annotations

from keras import KerasTensor as Tensor

from voc_cls.nets.layers import Backbone, Norm, add, batch_norm, conv, max_pool
from voc_cls.nets.registry import NetSpec

NORM = Norm(decay=0.997, epsilon=1e-5, gamma=True)  # tf_slim.nets.resnet_utils.resnet_arg_scope
WIDENING = 4
"""Channels that leave a unit, to those of its 3 × 3 convolution."""


def backbone_v1(spec: NetSpec, images: Tensor, dtype: str) -> Backbone:
    """conv1, then blocks of units that normalise after each convolution."""
    x, entries = images, {"conv1": images}
    x = conv(x, "conv1", 64, (7, 7), 2, "symmetric", norm=NORM, dtype=dtype)
    x = max_pool(x, "pool1", 3, 2, dtype)
    for block, unit, depth, stride in _units(spec):
        entries.setdefault(block, x)
        x = _unit_v1(x, f"{block}/{unit}/bottleneck_v1", depth, stride, dtype)
    return Backbone(x, x, entries)


def backbone_v2(spec: NetSpec, images: Tensor, dtype: str) -> Backbone:
    """conv1, then blocks of units that normalise before each convolution, then postnorm."""
    x, entries = images, {"conv1": images}
    x = conv(x, "conv1", 64, (7, 7), 2, "symmetric", relu=False, dtype=dtype)
    x = max_pool(x, "pool1", 3, 2, dtype)
    for block, unit, depth, stride in _units(spec):
        entries.setdefault(block, x)
        x = _unit_v2(x, f"{block}/{unit}/bottleneck_v2", depth, stride, dtype)
    entries["postnorm"] = x
    x = batch_norm(x, "postnorm", NORM, dtype)
    return Backbone(x, x, entries)


def _units(spec: NetSpec) -> list[tuple[str, str, int, int]]:
    """(block, unit, depth of the bottleneck, stride) of all units in order."""
    return [(f"block{block}", f"unit_{unit}", depth, 2 if unit == units and block < len(spec.blocks) else 1)
            for block, (depth, units) in enumerate(spec.blocks, 1) for unit in range(1, units + 1)]


def _unit_v1(x: Tensor, path: str, depth: int, stride: int, dtype: str) -> Tensor:
    if x.shape[-1] == WIDENING * depth:
        shortcut = _subsampled(x, path, stride, dtype)
    else:
        shortcut = conv(x, f"{path}/shortcut", WIDENING * depth, (1, 1), stride, norm=NORM, relu=False, dtype=dtype)
    residual = _narrow(x, path, depth, stride, dtype)
    residual = conv(residual, f"{path}/conv3", WIDENING * depth, (1, 1), norm=NORM, relu=False, dtype=dtype)
    return add(shortcut, residual, path, dtype, relu=True)


def _unit_v2(x: Tensor, path: str, depth: int, stride: int, dtype: str) -> Tensor:
    active = batch_norm(x, f"{path}/preact", NORM, dtype)
    if x.shape[-1] == WIDENING * depth:
        shortcut = _subsampled(x, path, stride, dtype)
    else:
        shortcut = conv(active, f"{path}/shortcut", WIDENING * depth, (1, 1), stride, relu=False, dtype=dtype)
    residual = _narrow(active, path, depth, stride, dtype)
    residual = conv(residual, f"{path}/conv3", WIDENING * depth, (1, 1), relu=False, dtype=dtype)
    return add(shortcut, residual, path, dtype, relu=False)


def _narrow(x: Tensor, path: str, depth: int, stride: int, dtype: str) -> Tensor:
    x = conv(x, f"{path}/conv1", depth, (1, 1), norm=NORM, dtype=dtype)
    return conv(x, f"{path}/conv2", depth, (3, 3), stride, "symmetric", norm=NORM, dtype=dtype)


def _subsampled(x: Tensor, path: str, stride: int, dtype: str) -> Tensor:
    return x if stride == 1 else max_pool(x, f"{path}/shortcut", 1, stride, dtype)
