"""The three Inceptions as tables: names, filters, strides and paddings of tf_slim.nets.inception_v1, _v2 and _v3."""

from __future__ import annotations

import re
from dataclasses import dataclass

from voc_cls.nets.layers import Kernel, Padding


@dataclass(frozen=True)
class Step:
    """A convolution, or a pool (no filters; the name says which), under TF-Slim's name."""

    name: str
    filters: int = 0
    stride: int = 1
    padding: Padding = "same"
    kernel: Kernel | None = None
    """Only where the name has another one."""
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
"""Steps in a row; a tuple of steps among them stands side by side."""


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

V3_AUXILIARY = (("Conv2d_1b_1x1", 128, (1, 1)), ("Conv2d_2a_5x5", 768, (5, 5)))
"""v3's auxiliary classifier below AuxLogits, on Mixed_6e's 768 channels; then Conv2d_2b_1x1, which has the classes."""
