"""Inception v1, v2 and v3 (arXiv:1409.4842, 1502.03167, 1512.00567), as tf_slim.nets.inception_v1 … v3 have them.

A network is a table with TF-Slim's names, filters, strides and paddings: layers in a row, and modules of branches side
by side.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from keras import KerasTensor as Tensor

from voc_cls.nets.layers import Backbone, Kernel, Norm, Padding, concatenate, conv, max_pool, mean_pool, separable
from voc_cls.nets.registry import NetSpec

NORM = Norm(decay=0.9997, epsilon=1e-3, gamma=False)  # tf_slim.nets.inception_v3.inception_v3_arg_scope; v1, v2 alike
DROPOUT = 0.2  # dropout_keep_prob=0.8


@dataclass(frozen=True)
class Step:
    """A convolution, or a pool (no filters; the name says which), under TF-Slim's name."""

    name: str
    filters: int = 0
    stride: int = 1
    padding: Padding = "same"
    kernel: Kernel | None = None
    """Only if it differs from the kernel in the name."""
    multiplier: int = 0
    """Of a separable convolution: filters for every channel."""

    @property
    def size(self) -> Kernel:
        """Height and width of the kernel."""
        if self.kernel is not None:
            return self.kernel
        height, width = re.findall(r"\d+", self.name.rpartition("_")[2])
        return int(height), int(width)


Branch = tuple[Step | tuple[Step, ...], ...]
"""Steps one after the other; a tuple among them is a group of steps side by side."""


@dataclass(frozen=True)
class Mixed:
    """A module: its branches see the same features, and their outputs are concatenated."""

    name: str
    branches: tuple[Branch, ...]


Table = tuple[Step | Mixed, ...]


def _v1(name: str, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int,
        last: str = "Conv2d_0b_3x3") -> Mixed:
    """v1's module; the paper's 5 × 5 convolutions are 3 × 3 in TF-Slim."""
    return Mixed(name, (
        (Step("Conv2d_0a_1x1", one),),
        (Step("Conv2d_0a_1x1", three[0]), Step("Conv2d_0b_3x3", three[1])),
        (Step("Conv2d_0a_1x1", five[0]), Step(last, five[1])),
        (Step("MaxPool_0a_3x3"), Step("Conv2d_0b_1x1", pooled)),
    ))


V1: Table = (
    Step("Conv2d_1a_7x7", 64, stride=2),
    Step("MaxPool_2a_3x3", stride=2),
    Step("Conv2d_2b_1x1", 64),
    Step("Conv2d_2c_3x3", 192),
    Step("MaxPool_3a_3x3", stride=2),
    _v1("Mixed_3b", 64, (96, 128), (16, 32), 32),
    _v1("Mixed_3c", 128, (128, 192), (32, 96), 64),
    Step("MaxPool_4a_3x3", stride=2),
    _v1("Mixed_4b", 192, (96, 208), (16, 48), 64),
    _v1("Mixed_4c", 160, (112, 224), (24, 64), 64),
    _v1("Mixed_4d", 128, (128, 256), (24, 64), 64),
    _v1("Mixed_4e", 112, (144, 288), (32, 64), 64),
    _v1("Mixed_4f", 256, (160, 320), (32, 128), 128),
    Step("MaxPool_5a_2x2", stride=2),
    _v1("Mixed_5b", 256, (160, 320), (32, 128), 128, last="Conv2d_0a_3x3"),
    _v1("Mixed_5c", 384, (192, 384), (48, 128), 128),
)


def _v2(name: str, one: int, three: tuple[int, int], double: tuple[int, int], pooled: int,
        pool: str = "AvgPool_0a_3x3") -> Mixed:
    return Mixed(name, (
        (Step("Conv2d_0a_1x1", one),),
        (Step("Conv2d_0a_1x1", three[0]), Step("Conv2d_0b_3x3", three[1])),
        (Step("Conv2d_0a_1x1", double[0]), Step("Conv2d_0b_3x3", double[1]), Step("Conv2d_0c_3x3", double[1])),
        (Step(pool), Step("Conv2d_0b_1x1", pooled)),
    ))


def _v2_halving(name: str, three: tuple[int, int], double: tuple[int, int]) -> Mixed:
    return Mixed(name, (
        (Step("Conv2d_0a_1x1", three[0]), Step("Conv2d_1a_3x3", three[1], stride=2)),
        (Step("Conv2d_0a_1x1", double[0]), Step("Conv2d_0b_3x3", double[1]),
         Step("Conv2d_1a_3x3", double[1], stride=2)),
        (Step("MaxPool_1a_3x3", stride=2),),
    ))


V2: Table = (
    Step("Conv2d_1a_7x7", 64, stride=2, multiplier=8),
    Step("MaxPool_2a_3x3", stride=2),
    Step("Conv2d_2b_1x1", 64),
    Step("Conv2d_2c_3x3", 192),
    Step("MaxPool_3a_3x3", stride=2),
    _v2("Mixed_3b", 64, (64, 64), (64, 96), 32),
    _v2("Mixed_3c", 64, (64, 96), (64, 96), 64),
    _v2_halving("Mixed_4a", (128, 160), (64, 96)),
    _v2("Mixed_4b", 224, (64, 96), (96, 128), 128),
    _v2("Mixed_4c", 192, (96, 128), (96, 128), 128),
    _v2("Mixed_4d", 160, (128, 160), (128, 160), 96),
    _v2("Mixed_4e", 96, (128, 192), (160, 192), 96),
    _v2_halving("Mixed_5a", (128, 192), (192, 256)),
    _v2("Mixed_5b", 352, (192, 320), (160, 224), 128),
    _v2("Mixed_5c", 352, (192, 320), (192, 224), 128, pool="MaxPool_0a_3x3"),
)


def _v3_35(name: str, pooled: int, five: tuple[str, str] = ("Conv2d_0a_1x1", "Conv2d_0b_5x5")) -> Mixed:
    """At 35 × 35 places; `five`: names of the second branch."""
    return Mixed(name, (
        (Step("Conv2d_0a_1x1", 64),),
        (Step(five[0], 48), Step(five[1], 64)),
        (Step("Conv2d_0a_1x1", 64), Step("Conv2d_0b_3x3", 96), Step("Conv2d_0c_3x3", 96)),
        (Step("AvgPool_0a_3x3"), Step("Conv2d_0b_1x1", pooled)),
    ))


def _v3_17(name: str, narrow: int) -> Mixed:
    """At 17 × 17 places: 7 × 7 convolutions as pairs of 1 × 7 and 7 × 1."""
    return Mixed(name, (
        (Step("Conv2d_0a_1x1", 192),),
        (Step("Conv2d_0a_1x1", narrow), Step("Conv2d_0b_1x7", narrow), Step("Conv2d_0c_7x1", 192)),
        (Step("Conv2d_0a_1x1", narrow), Step("Conv2d_0b_7x1", narrow), Step("Conv2d_0c_1x7", narrow),
         Step("Conv2d_0d_7x1", narrow), Step("Conv2d_0e_1x7", 192)),
        (Step("AvgPool_0a_3x3"), Step("Conv2d_0b_1x1", 192)),
    ))


def _v3_8(name: str, three_by_one: str) -> Mixed:
    """At 8 × 8 places: branches that end in 1 × 3 and 3 × 1 side by side."""
    return Mixed(name, (
        (Step("Conv2d_0a_1x1", 320),),
        (Step("Conv2d_0a_1x1", 384), (Step("Conv2d_0b_1x3", 384), Step(three_by_one, 384))),
        (Step("Conv2d_0a_1x1", 448), Step("Conv2d_0b_3x3", 384),
         (Step("Conv2d_0c_1x3", 384), Step("Conv2d_0d_3x1", 384))),
        (Step("AvgPool_0a_3x3"), Step("Conv2d_0b_1x1", 192)),
    ))


V3: Table = (
    Step("Conv2d_1a_3x3", 32, stride=2, padding="valid"),
    Step("Conv2d_2a_3x3", 32, padding="valid"),
    Step("Conv2d_2b_3x3", 64),
    Step("MaxPool_3a_3x3", stride=2, padding="valid"),
    Step("Conv2d_3b_1x1", 80),
    Step("Conv2d_4a_3x3", 192, padding="valid"),
    Step("MaxPool_5a_3x3", stride=2, padding="valid"),
    _v3_35("Mixed_5b", 32),
    _v3_35("Mixed_5c", 64, five=("Conv2d_0b_1x1", "Conv_1_0c_5x5")),
    _v3_35("Mixed_5d", 64),
    Mixed("Mixed_6a", (
        (Step("Conv2d_1a_1x1", 384, stride=2, padding="valid", kernel=(3, 3)),),
        (Step("Conv2d_0a_1x1", 64), Step("Conv2d_0b_3x3", 96),
         Step("Conv2d_1a_1x1", 96, stride=2, padding="valid", kernel=(3, 3))),
        (Step("MaxPool_1a_3x3", stride=2, padding="valid"),),
    )),
    _v3_17("Mixed_6b", 128),
    _v3_17("Mixed_6c", 160),
    _v3_17("Mixed_6d", 160),
    _v3_17("Mixed_6e", 192),
    Mixed("Mixed_7a", (
        (Step("Conv2d_0a_1x1", 192), Step("Conv2d_1a_3x3", 320, stride=2, padding="valid")),
        (Step("Conv2d_0a_1x1", 192), Step("Conv2d_0b_1x7", 192), Step("Conv2d_0c_7x1", 192),
         Step("Conv2d_1a_3x3", 192, stride=2, padding="valid")),
        (Step("MaxPool_1a_3x3", stride=2, padding="valid"),),
    )),
    _v3_8("Mixed_7b", "Conv2d_0b_3x1"),
    _v3_8("Mixed_7c", "Conv2d_0c_3x1"),
)

TABLES: dict[str, Table] = {"inception_v1": V1, "inception_v2": V2, "inception_v3": V3}


def backbone(spec: NetSpec, images: Tensor, dtype: str) -> Backbone:
    """The table of `spec`, from top to bottom; every convolution and module of its rows is a scope."""
    x, entries = images, {}
    for row in TABLES[spec.family]:
        if isinstance(row, Mixed):
            entries[row.name] = x
            branches = [_branch(x, f"{row.name}/Branch_{number}", branch, dtype)
                        for number, branch in enumerate(row.branches)]
            x = concatenate(branches, row.name, dtype)
        else:
            if row.filters:
                entries[row.name] = x
            x = _step(x, row.name, row, dtype)
    return Backbone(x, x, entries)


def auxiliary_logits(x: Tensor, classes: int, dtype: str) -> Tensor:
    """The auxiliary classifier of v3 on what leaves Mixed_6e.

    No network here has it, because it only helped to train the ImageNet weights. Checkpoints contain its variables.
    """
    x = mean_pool(x, "AuxLogits/AvgPool_1a_5x5", 5, 3, dtype)
    x = conv(x, "AuxLogits/Conv2d_1b_1x1", 128, (1, 1), norm=NORM, dtype=dtype)
    x = conv(x, "AuxLogits/Conv2d_2a_5x5", 768, (5, 5), norm=NORM, dtype=dtype)
    return conv(x, "AuxLogits/Conv2d_2b_1x1", classes, (1, 1), relu=False, dtype=dtype)


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
