"""AlexNet v2 (Krizhevsky 2014, arXiv:1404.5997), as tf_slim.nets.alexnet has it: without response normalisation."""

from __future__ import annotations

from keras import KerasTensor as Tensor

from voc_cls.nets import layers
from voc_cls.nets.layers import Backbone, Padding, conv, max_pool
from voc_cls.nets.registry import NetSpec

CONVOLUTIONS: dict[str, tuple[int, int, int, Padding]] = {  # filters, kernel, stride, padding
    "conv1": (64, 11, 4, "valid"),
    "conv2": (192, 5, 1, "same"),
    "conv3": (384, 3, 1, "same"),
    "conv4": (384, 3, 1, "same"),
    "conv5": (256, 3, 1, "same"),
}
POOLED = ("conv1", "conv2", "conv5")
FC6_KERNEL = (5, 5)  # the grid that 224 pixels leave
FC_UNITS = 4096
DROPOUT = 0.5  # dropout_keep_prob
BIAS = 0.1  # alexnet_v2_arg_scope: what every bias but the classifier's starts with


def backbone(_: NetSpec, images: Tensor, dtype: str) -> Backbone:
    """conv1 … pool5."""
    x, entries = images, {}
    for scope, (filters, kernel, stride, padding) in CONVOLUTIONS.items():
        entries[scope] = x
        grid = x = conv(x, scope, filters, (kernel, kernel), stride, padding, dtype=dtype,
                        initializer="glorot_uniform", bias=BIAS)
        if scope in POOLED:
            x = max_pool(x, scope.replace("conv", "pool"), 3, 2, dtype, padding="valid")
    return Backbone(x, grid, entries)


def fully_connected(backbone: Backbone, _: NetSpec, dtype: str) -> Tensor:
    """fc6 and fc7."""
    return layers.fully_connected(backbone, FC6_KERNEL, FC_UNITS, DROPOUT, dtype, BIAS)
