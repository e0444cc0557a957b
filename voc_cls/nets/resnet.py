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


def backbone(spec: NetSpec, images: Tensor, dtype: str) -> Backbone:
    """conv1, then blocks of units; v1 normalises after each convolution, v2 before, and once more at the end."""
    v2 = spec.family == "resnet_v2"
    entries = {"conv1": images}
    x = conv(images, "conv1", 64, (7, 7), 2, "symmetric", norm=None if v2 else NORM, relu=not v2, dtype=dtype)
    x = max_pool(x, "pool1", 3, 2, dtype)
    for block, (depth, units) in enumerate(spec.blocks, 1):
        entries[f"block{block}"] = x
        for unit in range(1, units + 1):
            stride = 2 if unit == units and block < len(spec.blocks) else 1
            path = f"block{block}/unit_{unit}/bottleneck_{'v2' if v2 else 'v1'}"
            x = _unit(x, path, depth, stride, v2, dtype)
    if v2:
        entries["postnorm"] = x
        x = batch_norm(x, "postnorm", NORM, dtype)
    return Backbone(x, x, entries)


def _unit(x: Tensor, path: str, depth: int, stride: int, v2: bool, dtype: str) -> Tensor:
    width, norm = WIDENING * depth, None if v2 else NORM
    inputs = batch_norm(x, f"{path}/preact", NORM, dtype) if v2 else x
    if x.shape[-1] != width:
        shortcut = conv(inputs, f"{path}/shortcut", width, (1, 1), stride, norm=norm, relu=False, dtype=dtype)
    else:
        shortcut = x if stride == 1 else max_pool(x, f"{path}/shortcut", 1, stride, dtype)
    residual = conv(inputs, f"{path}/conv1", depth, (1, 1), norm=NORM, dtype=dtype)
    residual = conv(residual, f"{path}/conv2", depth, (3, 3), stride, "symmetric", norm=NORM, dtype=dtype)
    residual = conv(residual, f"{path}/conv3", width, (1, 1), norm=norm, relu=False, dtype=dtype)
    return add(shortcut, residual, path, dtype, relu=not v2)
