"""AlexNet v2 (Krizhevsky 2014, arXiv:1404.5997), as tf_slim.nets.alexnet has it: without response normalisation."""

from __future__ import annotations

from voc_cls.nets.layers import Features, Layers
from voc_cls.nets.registry import NetSpec
from voc_cls.nets.vgg import fully_connected

CONVOLUTIONS = {  # filters, kernel
    "conv2": (192, 5),
    "conv3": (384, 3),
    "conv4": (384, 3),
    "conv5": (256, 3),
}
POOLED = ("conv1", "conv2", "conv5")
FC6_KERNEL = (5, 5)  # the grid that 224 pixels leave
BIAS = 0.1  # alexnet_v2_arg_scope: what every bias but the classifier's starts with


def trunk(layers: Layers[Features], _: NetSpec, images: Features) -> Features:
    """conv1 … pool5."""
    layers.enter("conv1", images)
    features = layers.conv(images, "conv1", 64, (11, 11), stride=4, padding="valid")
    features = layers.pool(features, "pool1", "max", 3, stride=2, padding="valid")
    for scope, (filters, kernel) in CONVOLUTIONS.items():
        layers.enter(scope, features)
        features = layers.conv(features, scope, filters, (kernel, kernel))
        if scope == "conv5":
            layers.last_grid(features)
        if scope in POOLED:
            features = layers.pool(features, scope.replace("conv", "pool"), "max", 3, stride=2, padding="valid")
    return features


def head(layers: Layers[Features], _: NetSpec, features: Features) -> Features:
    """fc6 and fc7."""
    return fully_connected(layers, features, FC6_KERNEL)
