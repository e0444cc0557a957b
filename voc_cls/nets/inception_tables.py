"""The tables of the Inceptions, from tf_slim.nets.inception_v1 … v3 and TF-Slim's nets/inception_v4.py and
nets/inception_resnet_v2.py. Imports nothing heavy.

A network is a table with TF-Slim's names, filters, strides and paddings: layers in a row, and modules of branches side
by side. Papers: arXiv:1409.4842 (v1), 1502.03167 (v2), 1512.00567 (v3), 1602.07261 (v4, ResNet v2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kernel = tuple[int, int]


@dataclass(frozen=True)
class Step:
    """A convolution, or a pool (no filters; the name says which), under TF-Slim's name."""

    name: str
    filters: int = 0
    stride: int = 1
    padding: Literal["same", "valid"] = "same"
    kernel: Kernel | None = None
    """Only if it differs from the kernel in the name."""
    multiplier: int = 0
    """Of a separable convolution: filters for every channel."""

    @property
    def size(self) -> Kernel:
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
    residual: float = 0.0
    """Factor of what a 1 × 1 convolution with biases makes of them and is added to the features; 0: nothing is."""
    relu: bool = True
    """Whether a ReLU follows that sum."""


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
    """v2's module, which is v4's at 35 × 35 places (Inception-A)."""
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


def _v3_35(name: str, pooled: int, five: tuple[str, str] = ("Conv2d_0a_1x1", "Conv2d_0b_5x5"),
           one: Step = Step("Conv2d_0a_1x1", 64)) -> Mixed:
    """At 35 × 35 places; `one`: the first branch; `five`: names of the second."""
    return Mixed(name, (
        (one,),
        (Step(five[0], 48), Step(five[1], 64)),
        (Step("Conv2d_0a_1x1", 64), Step("Conv2d_0b_3x3", 96), Step("Conv2d_0c_3x3", 96)),
        (Step("AvgPool_0a_3x3"), Step("Conv2d_0b_1x1", pooled)),
    ))


def _halving_35(double: tuple[int, int, int], last: str = "Conv2d_1a_3x3") -> Mixed:
    """From 35 × 35 places to 17 × 17; `last`: the name of convolutions of 3 × 3."""
    return Mixed("Mixed_6a", (
        (Step(last, 384, stride=2, padding="valid", kernel=(3, 3)),),
        (Step("Conv2d_0a_1x1", double[0]), Step("Conv2d_0b_3x3", double[1]),
         Step(last, double[2], stride=2, padding="valid", kernel=(3, 3))),
        (Step("MaxPool_1a_3x3", stride=2, padding="valid"),),
    ))


def _at_17(name: str, one: int, seven: tuple[int, ...], double: tuple[int, ...], pooled: int) -> Mixed:
    """At 17 × 17 places: 7 × 7 convolutions as pairs of 1 × 7 and 7 × 1."""
    return Mixed(name, (
        (Step("Conv2d_0a_1x1", one),),
        (Step("Conv2d_0a_1x1", seven[0]), Step("Conv2d_0b_1x7", seven[1]), Step("Conv2d_0c_7x1", seven[2])),
        (Step("Conv2d_0a_1x1", double[0]), Step("Conv2d_0b_7x1", double[1]), Step("Conv2d_0c_1x7", double[2]),
         Step("Conv2d_0d_7x1", double[3]), Step("Conv2d_0e_1x7", double[4])),
        (Step("AvgPool_0a_3x3"), Step("Conv2d_0b_1x1", pooled)),
    ))


def _halving_17(three: int, seven: tuple[int, int, int]) -> Mixed:
    """From 17 × 17 places to 8 × 8."""
    return Mixed("Mixed_7a", (
        (Step("Conv2d_0a_1x1", 192), Step("Conv2d_1a_3x3", three, stride=2, padding="valid")),
        (Step("Conv2d_0a_1x1", seven[0]), Step("Conv2d_0b_1x7", seven[1]), Step("Conv2d_0c_7x1", seven[2]),
         Step("Conv2d_1a_3x3", seven[2], stride=2, padding="valid")),
        (Step("MaxPool_1a_3x3", stride=2, padding="valid"),),
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
    _halving_35((64, 96, 96), last="Conv2d_1a_1x1"),
    *(_at_17(f"Mixed_6{letter}", 192, (narrow, narrow, 192), (narrow, narrow, narrow, narrow, 192), 192)
      for letter, narrow in (("b", 128), ("c", 160), ("d", 160), ("e", 192))),
    _halving_17(320, (192, 192, 192)),
    _v3_8("Mixed_7b", "Conv2d_0b_3x1"),
    _v3_8("Mixed_7c", "Conv2d_0c_3x1"),
)


V4: Table = (
    *V3[:3],
    Mixed("Mixed_3a", (
        (Step("MaxPool_0a_3x3", stride=2, padding="valid"),),
        (Step("Conv2d_0a_3x3", 96, stride=2, padding="valid"),),
    )),
    Mixed("Mixed_4a", (
        (Step("Conv2d_0a_1x1", 64), Step("Conv2d_1a_3x3", 96, padding="valid")),
        (Step("Conv2d_0a_1x1", 64), Step("Conv2d_0b_1x7", 64), Step("Conv2d_0c_7x1", 64),
         Step("Conv2d_1a_3x3", 96, padding="valid")),
    )),
    Mixed("Mixed_5a", (
        (Step("Conv2d_1a_3x3", 192, stride=2, padding="valid"),),
        (Step("MaxPool_1a_3x3", stride=2, padding="valid"),),
    )),
    *(_v2(f"Mixed_5{letter}", 96, (64, 96), (64, 96), 96) for letter in "bcde"),
    _halving_35((192, 224, 256)),
    *(_at_17(f"Mixed_6{letter}", 384, (192, 224, 256), (192, 192, 224, 224, 256), 128) for letter in "bcdefgh"),
    _halving_17(192, (256, 256, 320)),
    *(Mixed(f"Mixed_7{letter}", (  # Inception-C, at 8 × 8 places
        (Step("Conv2d_0a_1x1", 256),),
        (Step("Conv2d_0a_1x1", 384), (Step("Conv2d_0b_1x3", 256), Step("Conv2d_0c_3x1", 256))),
        (Step("Conv2d_0a_1x1", 384), Step("Conv2d_0b_3x1", 448), Step("Conv2d_0c_1x3", 512),
         (Step("Conv2d_0d_1x3", 256), Step("Conv2d_0e_3x1", 256))),
        (Step("AvgPool_0a_3x3"), Step("Conv2d_0b_1x1", 256)),
    )) for letter in "bcd"),
)


def _block8(name: str, residual: float = 0.2, relu: bool = True) -> Mixed:
    return Mixed(name, (
        (Step("Conv2d_1x1", 192),),
        (Step("Conv2d_0a_1x1", 192), Step("Conv2d_0b_1x3", 224), Step("Conv2d_0c_3x1", 256)),
    ), residual, relu)


RESNET_V2: Table = (
    *V3[:7],
    _v3_35("Mixed_5b", 64, one=Step("Conv2d_1x1", 96)),
    *(Mixed(f"Repeat/block35_{number}", (
        (Step("Conv2d_1x1", 32),),
        (Step("Conv2d_0a_1x1", 32), Step("Conv2d_0b_3x3", 32)),
        (Step("Conv2d_0a_1x1", 32), Step("Conv2d_0b_3x3", 48), Step("Conv2d_0c_3x3", 64)),
    ), residual=0.17) for number in range(1, 11)),
    _halving_35((256, 256, 384)),
    *(Mixed(f"Repeat_1/block17_{number}", (
        (Step("Conv2d_1x1", 192),),
        (Step("Conv2d_0a_1x1", 128), Step("Conv2d_0b_1x7", 160), Step("Conv2d_0c_7x1", 192)),
    ), residual=0.1) for number in range(1, 21)),
    Mixed("Mixed_7a", (
        (Step("Conv2d_0a_1x1", 256), Step("Conv2d_1a_3x3", 384, stride=2, padding="valid")),
        (Step("Conv2d_0a_1x1", 256), Step("Conv2d_1a_3x3", 288, stride=2, padding="valid")),
        (Step("Conv2d_0a_1x1", 256), Step("Conv2d_0b_3x3", 288),
         Step("Conv2d_1a_3x3", 320, stride=2, padding="valid")),
        (Step("MaxPool_1a_3x3", stride=2, padding="valid"),),
    )),
    *(_block8(f"Repeat_2/block8_{number}") for number in range(1, 10)),
    _block8("Block8", residual=1.0, relu=False),
    Step("Conv2d_7b_1x1", 1536),
)

TABLES: dict[str, Table] = {"inception_v1": V1, "inception_v2": V2, "inception_v3": V3, "inception_v4": V4,
                            "inception_resnet_v2": RESNET_V2}
RESIDUAL = "Conv2d_1x1"
"""The convolution behind a residual module's branches."""


def convolutions(table: Table) -> Iterator[str]:
    """Paths of the normalised convolutions, in TF-Slim's order."""
    for row in table:
        for number, branch in enumerate(row.branches if isinstance(row, Mixed) else ((row,),)):
            path = f"{row.name}/Branch_{number}/" if isinstance(row, Mixed) else ""
            for step in branch:
                yield from (f"{path}{one.name}" for one in (step if isinstance(step, tuple) else (step,))
                            if one.filters)
