"""Networks whose layers and units follow one another: VGG, AlexNet v2, ResNet v1 and v2, MobileNet v1.

    vgg        Simonyan & Zisserman 2014, arXiv:1409.1556, as tf_slim.nets.vgg has it
    alexnet    Krizhevsky 2014, arXiv:1404.5997, as tf_slim.nets.alexnet has it: without response normalisation
    resnet     He et al. 2015, arXiv:1512.03385 (v1) and 1603.05027 (v2), as tf_slim.nets.resnet_v1 and _v2 have them
    mobilenet  Howard et al. 2017, arXiv:1704.04861, as TF-Slim's nets/mobilenet_v1.py has it, of any width
"""

from __future__ import annotations

from keras import KerasTensor as Tensor

from voc_cls.nets.layers import Backbone, Norm, Padding, add, batch_norm, conv, depthwise, max_pool
from voc_cls.nets.registry import NetSpec

ALEXNET: dict[str, tuple[int, int, int, Padding]] = {  # filters, kernel, stride, padding
    "conv1": (64, 11, 4, "valid"),
    "conv2": (192, 5, 1, "same"),
    "conv3": (384, 3, 1, "same"),
    "conv4": (384, 3, 1, "same"),
    "conv5": (256, 3, 1, "same"),
}
ALEXNET_POOLED = ("conv1", "conv2", "conv5")
ALEXNET_BIAS = 0.1  # alexnet_v2_arg_scope: what every bias but the classifier's starts with
RESNET_NORM = Norm(decay=0.997, epsilon=1e-5, gamma=True)  # tf_slim.nets.resnet_utils.resnet_arg_scope
RESNET_WIDENING = 4
"""Channels that leave a unit, to those of its 3 × 3 convolution."""
MOBILENET_NORM = Norm(decay=0.9997, epsilon=1e-3, gamma=True, ceiling=6.0)  # mobilenet_v1_arg_scope, with ReLU6
MOBILENET_DROPOUT = 0.001  # dropout_keep_prob=0.999


def vgg(spec: NetSpec, images: Tensor, dtype: str) -> Backbone:
    """conv1_1 … pool5: blocks of 3 × 3 convolutions, each followed by a pool."""
    x, entries = images, {}
    for block, (filters, convolutions) in enumerate(spec.blocks, 1):
        entries[f"conv{block}"] = x
        for number in range(1, convolutions + 1):
            x = conv(x, f"conv{block}/conv{block}_{number}", filters, (3, 3), dtype=dtype, initializer="glorot_uniform")
        grid = x
        x = max_pool(x, f"pool{block}", 2, 2, dtype)
    return Backbone(x, grid, entries)


def alexnet(_: NetSpec, images: Tensor, dtype: str) -> Backbone:
    """conv1 … pool5."""
    x, entries = images, {}
    for scope, (filters, kernel, stride, padding) in ALEXNET.items():
        entries[scope] = x
        grid = x = conv(x, scope, filters, (kernel, kernel), stride, padding, dtype=dtype,
                        initializer="glorot_uniform", bias=ALEXNET_BIAS)
        if scope in ALEXNET_POOLED:
            x = max_pool(x, scope.replace("conv", "pool"), 3, 2, dtype, padding="valid")
    return Backbone(x, grid, entries)


def resnet(spec: NetSpec, images: Tensor, dtype: str) -> Backbone:
    """conv1, then blocks of units; v1 normalises after each convolution, v2 before, and once more at the end.

    The stride of a block is in its last unit, where the papers and torchvision have it in the first of the next.
    """
    v2 = spec.family == "resnet_v2"
    entries = {"conv1": images}
    x = conv(images, "conv1", 64, (7, 7), 2, "symmetric", norm=None if v2 else RESNET_NORM, relu=not v2, dtype=dtype)
    x = max_pool(x, "pool1", 3, 2, dtype)
    for block, (depth, units) in enumerate(spec.blocks, 1):
        entries[f"block{block}"] = x
        for unit in range(1, units + 1):
            stride = 2 if unit == units and block < len(spec.blocks) else 1
            path = f"block{block}/unit_{unit}/bottleneck_{'v2' if v2 else 'v1'}"
            x = _resnet_unit(x, path, depth, stride, v2, dtype)
    if v2:
        entries["postnorm"] = x
        x = batch_norm(x, "postnorm", RESNET_NORM, dtype)
    return Backbone(x, x, entries)


def _resnet_unit(x: Tensor, path: str, depth: int, stride: int, v2: bool, dtype: str) -> Tensor:
    width, norm = RESNET_WIDENING * depth, None if v2 else RESNET_NORM
    inputs = batch_norm(x, f"{path}/preact", RESNET_NORM, dtype) if v2 else x
    if x.shape[-1] != width:
        shortcut = conv(inputs, f"{path}/shortcut", width, (1, 1), stride, norm=norm, relu=False, dtype=dtype)
    else:
        shortcut = x if stride == 1 else max_pool(x, f"{path}/shortcut", 1, stride, dtype)
    residual = conv(inputs, f"{path}/conv1", depth, (1, 1), norm=RESNET_NORM, dtype=dtype)
    residual = conv(residual, f"{path}/conv2", depth, (3, 3), stride, "symmetric", norm=RESNET_NORM, dtype=dtype)
    residual = conv(residual, f"{path}/conv3", width, (1, 1), norm=norm, relu=False, dtype=dtype)
    return add(shortcut, residual, path, dtype, relu=not v2)


def mobilenet(spec: NetSpec, images: Tensor, dtype: str) -> Backbone:
    """Conv2d_0, then pairs: a filter for every channel (depthwise), and a 1 × 1 convolution (pointwise)."""
    (filters, stride), *pairs = spec.blocks
    entries: dict[str, Tensor | None] = {"Conv2d_0": images}
    x = conv(images, "Conv2d_0", filters, (3, 3), stride, norm=MOBILENET_NORM, dtype=dtype)
    for number, (filters, stride) in enumerate(pairs, 1):
        first, second = f"Conv2d_{number}_depthwise", f"Conv2d_{number}_pointwise"
        entries[first] = x
        x = depthwise(x, first, (3, 3), stride, MOBILENET_NORM, dtype)
        entries[second] = x
        x = conv(x, second, filters, (1, 1), norm=MOBILENET_NORM, dtype=dtype)
    return Backbone(x, x, entries)
