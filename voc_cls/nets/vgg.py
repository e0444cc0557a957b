"""VGG (Simonyan & Zisserman 2014, arXiv:1409.1556), as tf_slim.nets.vgg has it."""

from __future__ import annotations

from keras import KerasTensor as Tensor

from voc_cls.nets.layers import Backbone, conv, max_pool
from voc_cls.nets.registry import NetSpec


def backbone(spec: NetSpec, images: Tensor, dtype: str) -> Backbone:
    """conv1_1 … pool5: blocks of 3 × 3 convolutions, each followed by a pool."""
    x, entries = images, {}
    for block, (filters, convolutions) in enumerate(spec.blocks, 1):
        entries[f"conv{block}"] = x
        for number in range(1, convolutions + 1):
            x = conv(x, f"conv{block}/conv{block}_{number}", filters, (3, 3), dtype=dtype, initializer="glorot_uniform")
        grid = x
        x = max_pool(x, f"pool{block}", 2, 2, dtype)
    return Backbone(x, grid, entries)
