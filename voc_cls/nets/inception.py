"""Inception v1, v2 and v3 (arXiv:1409.4842, 1502.03167, 1512.00567), as tf_slim.nets.inception_v1 … v3 have them.

A network is a table (inception_tables.py): layers in a row, and modules of branches side by side. v3's auxiliary
classifier is left out: it only helped to train the ImageNet weights.
"""

from __future__ import annotations

from voc_cls.nets.inception_tables import TABLES, Branch, Mixed, Step
from voc_cls.nets.layers import Features, Layers, Norm
from voc_cls.nets.registry import NetSpec

NORM = Norm(decay=0.9997, epsilon=1e-3, gamma=False)  # tf_slim.nets.inception_v3.inception_v3_arg_scope; v1, v2 alike
DROPOUT = 0.2  # dropout_keep_prob=0.8


def trunk(layers: Layers[Features], spec: NetSpec, images: Features) -> Features:
    """The table of `spec`, from top to bottom; every convolution and module of its rows is a scope."""
    features = images
    for row in TABLES[spec.family]:
        if isinstance(row, Mixed):
            layers.enter(row.name, features)
            branches = [_branch(layers, features, f"{row.name}/Branch_{number}", branch)
                        for number, branch in enumerate(row.branches)]
            features = layers.concatenate(branches, row.name)
        else:
            if row.filters:
                layers.enter(row.name, features)
            features = _step(layers, features, row.name, row)
    layers.last_grid(features)
    return features


def head(layers: Layers[Features], _: NetSpec, features: Features) -> Features:
    """The mean of the last grid."""
    return layers.grid_mean(features)


def _branch(layers: Layers[Features], features: Features, path: str, branch: Branch) -> Features:
    for step in branch:
        if isinstance(step, tuple):
            ends = [_step(layers, features, f"{path}/{end.name}", end) for end in step]
            features = layers.concatenate(ends, path)
        else:
            features = _step(layers, features, f"{path}/{step.name}", step)
    return features


def _step(layers: Layers[Features], features: Features, path: str, step: Step) -> Features:
    if not step.filters:
        kind = "max" if step.name.startswith("Max") else "mean"
        return layers.pool(features, path, "max" if kind == "max" else "mean", step.size[0], stride=step.stride,
                           padding=step.padding)
    if step.multiplier:
        return layers.separable(features, path, step.filters, step.size, multiplier=step.multiplier,
                                stride=step.stride)
    return layers.conv(features, path, step.filters, step.size, stride=step.stride, padding=step.padding, norm=True)
