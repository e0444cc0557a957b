"""ResNet v1 (He et al. 2015, arXiv:1512.03385) and v2 (arXiv:1603.05027), as tf_slim.nets.resnet_v1 and _v2 have them.

The stride of a block is in its last unit, where the papers and torchvision have it in the first of the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from voc_cls.nets.layers import Features, Layers, Norm
from voc_cls.nets.registry import NetSpec

NORM = Norm(decay=0.997, epsilon=1e-5, gamma=True)  # tf_slim.nets.resnet_utils.resnet_arg_scope
WIDENING = 4
"""Channels that leave a unit, to those of its 3 × 3 convolution."""


def trunk_v1(layers: Layers[Features], spec: NetSpec, images: Features) -> Features:
    """conv1, then blocks of units that normalise after each convolution."""
    layers.enter("conv1", images)
    features = layers.conv(images, "conv1", 64, (7, 7), stride=2, padding="symmetric", norm=True)
    features = _blocks(layers, spec, features, _unit_v1)
    layers.last_grid(features)
    return features


def trunk_v2(layers: Layers[Features], spec: NetSpec, images: Features) -> Features:
    """conv1, then blocks of units that normalise before each convolution, then postnorm."""
    layers.enter("conv1", images)
    features = layers.conv(images, "conv1", 64, (7, 7), stride=2, padding="symmetric", relu=False)
    features = _blocks(layers, spec, features, _unit_v2)
    layers.enter("postnorm", features)
    features = layers.norm(features, "postnorm")
    layers.last_grid(features)
    return features


def head(layers: Layers[Features], _: NetSpec, features: Features) -> Features:
    """The mean of the last grid."""
    return layers.grid_mean(features)


def _blocks(layers: Layers[Features], spec: NetSpec, features: Features, unit: Callable[..., Any]) -> Features:
    features = layers.pool(features, "pool1", "max", 3, stride=2)
    for number, (depth, units) in enumerate(spec.blocks, 1):
        layers.enter(f"block{number}", features)
        for place in range(1, units + 1):
            stride = 2 if place == units and number < len(spec.blocks) else 1
            features = unit(layers, features, f"block{number}/unit_{place}", depth, stride)
    return features


def _unit_v1(layers: Layers[Features], features: Features, path: str, depth: int, stride: int) -> Features:
    path = f"{path}/bottleneck_v1"
    if layers.channels(features) == WIDENING * depth:
        shortcut = _subsampled(layers, features, path, stride)
    else:
        shortcut = layers.conv(features, f"{path}/shortcut", WIDENING * depth, (1, 1), stride=stride, norm=True,
                               relu=False)
    residual = _narrow(layers, features, path, depth, stride)
    residual = layers.conv(residual, f"{path}/conv3", WIDENING * depth, (1, 1), norm=True, relu=False)
    return layers.add(shortcut, residual, path, relu=True)


def _unit_v2(layers: Layers[Features], features: Features, path: str, depth: int, stride: int) -> Features:
    path = f"{path}/bottleneck_v2"
    active = layers.norm(features, f"{path}/preact")
    if layers.channels(features) == WIDENING * depth:
        shortcut = _subsampled(layers, features, path, stride)
    else:
        shortcut = layers.conv(active, f"{path}/shortcut", WIDENING * depth, (1, 1), stride=stride, relu=False)
    residual = _narrow(layers, active, path, depth, stride)
    residual = layers.conv(residual, f"{path}/conv3", WIDENING * depth, (1, 1), relu=False)
    return layers.add(shortcut, residual, path, relu=False)


def _narrow(layers: Layers[Features], features: Features, path: str, depth: int, stride: int) -> Features:
    features = layers.conv(features, f"{path}/conv1", depth, (1, 1), norm=True)
    return layers.conv(features, f"{path}/conv2", depth, (3, 3), stride=stride, padding="symmetric", norm=True)


def _subsampled(layers: Layers[Features], features: Features, path: str, stride: int) -> Features:
    return features if stride == 1 else layers.pool(features, f"{path}/shortcut", "max", 1, stride=stride)
