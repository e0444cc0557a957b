"""AlexNet v2 (Krizhevsky 2014, arXiv:1404.5997), as tf_slim.nets.alexnet has it: without response normalisation."""

from __future__ import annotations

from keras import KerasTensor as Tensor

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
