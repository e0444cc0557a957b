"""VGG (Simonyan & Zisserman 2014, arXiv:1409.1556), as tf_slim.nets.vgg has it."""

from __future__ import annotations

from voc_cls.nets.layers import Features, Kernel, Layers
from voc_cls.nets.registry import NetSpec

FC_UNITS = 4096
DROPOUT = 0.5  # tf_slim.nets.vgg and alexnet: dropout_keep_prob


def trunk(layers: Layers[Features], spec: NetSpec, images: Features) -> Features:
    """conv1_1 … pool5: blocks of 3 × 3 convolutions, each with a pool behind it."""
    features = images
    for number, (filters, convolutions) in enumerate(spec.blocks, 1):
        layers.enter(f"conv{number}", features)
        for convolution in range(1, convolutions + 1):
            features = layers.conv(features, f"conv{number}/conv{number}_{convolution}", filters, (3, 3))
        if number == len(spec.blocks):
            layers.last_grid(features)
        features = layers.pool(features, f"pool{number}", "max", 2, stride=2)
    return features


def head(layers: Layers[Features], spec: NetSpec, features: Features) -> Features:
    """fc6 and fc7 as convolutions: a larger picture than the network's own gives a grid of answers."""
    places = spec.preprocessing.size // 2 ** len(spec.blocks)
    return fully_connected(layers, features, (places, places))


def fully_connected(layers: Layers[Features], features: Features, kernel: Kernel) -> Features:
    """fc6 over `kernel` places of the grid, and fc7."""
    layers.enter("fc6", features)
    features = layers.conv(features, "fc6", FC_UNITS, kernel, padding="valid")
    layers.enter("fc7", features)
    features = layers.dropout(features, "dropout6", DROPOUT)
    return layers.conv(features, "fc7", FC_UNITS, (1, 1))
