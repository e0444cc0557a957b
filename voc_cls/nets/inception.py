"""The Inceptions of inception_tables.py: v1 to v4, and Inception-ResNet v2."""

from __future__ import annotations

from keras import KerasTensor as Tensor

from voc_cls.nets.inception_tables import RESIDUAL, TABLES, Branch, Mixed, Step
from voc_cls.nets.layers import Backbone, Norm, add, concatenate, conv, max_pool, mean_pool, separable
from voc_cls.nets.registry import NetSpec

NORM = Norm(decay=0.9997, epsilon=1e-3, gamma=False)  # tf_slim.nets.inception_v3.inception_v3_arg_scope; all alike
DROPOUT = 0.2  # dropout_keep_prob=0.8
AUXILIARY = {"inception_v3": ("Conv2d_2a_5x5", "Conv2d_2b_1x1"), "inception_v4": ("Conv2d_2a", "Aux_logits"),
             "inception_resnet_v2": ("Conv2d_2a_5x5", "Logits")}
"""Family → the last two layers of its auxiliary classifier."""


def backbone(spec: NetSpec, images: Tensor, dtype: str) -> Backbone:
    """The table of `spec`, from top to bottom; every convolution and module of its rows is a scope, or in one."""
    x = images
    entries: dict[str, Tensor | None] = {}
    for row in TABLES[spec.family]:
        if isinstance(row, Mixed) or row.filters:
            entries.setdefault(row.name.partition("/")[0], x)
        x = _mixed(x, row, dtype) if isinstance(row, Mixed) else _step(x, row.name, row, dtype)
    return Backbone(x, x, entries)


def auxiliary_logits(family: str, x: Tensor, classes: int, dtype: str) -> Tensor:
    """The auxiliary classifier on what enters Mixed_7a.

    No network here has it, because it only helped to train the ImageNet weights. Checkpoints contain its variables.
    """
    whole_grid, logits = AUXILIARY[family]
    x = mean_pool(x, "AuxLogits/AvgPool_1a_5x5", 5, 3, dtype)
    x = conv(x, "AuxLogits/Conv2d_1b_1x1", 128, (1, 1), norm=NORM, dtype=dtype)
    x = conv(x, f"AuxLogits/{whole_grid}", 768, (5, 5), norm=NORM, dtype=dtype)
    return conv(x, f"AuxLogits/{logits}", classes, (1, 1), relu=False, dtype=dtype)


def _mixed(x: Tensor, row: Mixed, dtype: str) -> Tensor:
    branches = [_branch(x, f"{row.name}/Branch_{number}", branch, dtype) for number, branch in enumerate(row.branches)]
    mixed = concatenate(branches, row.name, dtype)
    if not row.residual:
        return mixed
    change = conv(mixed, f"{row.name}/{RESIDUAL}", x.shape[-1], (1, 1), relu=False, dtype=dtype)
    return add(x, change, row.name, dtype, row.relu, row.residual)


def _branch(x: Tensor, path: str, branch: Branch, dtype: str) -> Tensor:
    for step in branch:
        if isinstance(step, tuple):
            x = concatenate([_step(x, f"{path}/{end.name}", end, dtype) for end in step], path, dtype)
        else:
            x = _step(x, f"{path}/{step.name}", step, dtype)
    return x


def _step(x: Tensor, path: str, step: Step, dtype: str) -> Tensor:
    if not step.filters:
        pool = max_pool if step.name.startswith("Max") else mean_pool
        return pool(x, path, step.size[0], step.stride, dtype, step.padding)
    if step.multiplier:
        return separable(x, path, step.filters, step.size, step.stride, step.multiplier, dtype)
    return conv(x, path, step.filters, step.size, step.stride, step.padding, norm=NORM, dtype=dtype)
