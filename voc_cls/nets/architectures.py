"""The families of networks: what they are made of, beside their rows in the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from voc_cls.nets import alexnet, inception, resnet, vgg
from voc_cls.nets.layers import Norm

Part = Callable[..., Any]
"""(layers, spec, features) → features."""


@dataclass(frozen=True)
class Architecture:
    """A family: `trunk` ends in the last grid or the pool behind it, `head` in what the paper's classifier sees."""

    trunk: Part
    head: Part
    kernels: str = "he_normal"
    """Keras' name of what kernels but the classifier's start with (tf_slim: variance_scaling_initializer)."""
    biases: float = 0.0
    """What biases but the classifier's start with."""
    norm: Norm | None = None
    dropout: float = 0.0
    """Before the paper's classifier."""
    any_size: bool = True
    """Whether the paper's head takes pictures of any size."""


ARCHITECTURES = {
    "vgg": Architecture(vgg.trunk, vgg.head, "glorot_uniform", dropout=vgg.DROPOUT, any_size=False),
    "alexnet": Architecture(alexnet.trunk, alexnet.head, "glorot_uniform", alexnet.BIAS, dropout=vgg.DROPOUT,
                            any_size=False),
    "resnet_v1": Architecture(resnet.trunk_v1, resnet.head, norm=resnet.NORM),
    "resnet_v2": Architecture(resnet.trunk_v2, resnet.head, norm=resnet.NORM),
    **{f"inception_v{version}": Architecture(inception.trunk, inception.head, norm=inception.NORM,
                                             dropout=inception.DROPOUT) for version in (1, 2, 3)},
}
