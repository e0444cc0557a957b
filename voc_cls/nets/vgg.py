"""VGG (Simonyan & Zisserman 2014, arXiv:1409.1556), as tf_slim.nets.vgg has it."""

from __future__ import annotations

from keras import KerasTensor as Tensor

from voc_cls.nets import layers
from voc_cls.nets.layers import Backbone, conv, max_pool
from voc_cls.nets.registry import NetSpec

FC_UNITS = 4096
DROPOUT = 0.5  # dropout_keep_prob


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


def fully_connected(backbone: Backbone, spec: NetSpec, dtype: str) -> Tensor:
    """fc6 and fc7 as convolutions: an image larger than the network's own gives a grid of answers."""
    places = spec.preprocessing.size // 2 ** len(spec.blocks)
    return layers.fully_connected(backbone, (places, places), FC_UNITS, DROPOUT, dtype)
