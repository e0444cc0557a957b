"""Small real things for the tests of weights: a narrow VGG, and the tensors of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from voc_cls.nets.network import Network
from voc_cls.nets.registry import NETS
from voc_cls.weights.naming.slim import slim_shapes


@pytest.fixture
def narrow_vgg() -> Callable[..., Network]:
    """Builds VGG-16 with 8 filters a layer and 32 × 32 pictures, named and wired as the real one."""
    import keras

    from voc_cls.nets.network import build

    keras.utils.set_random_seed(0)
    real = NETS["vgg_16"]
    spec = replace(real, blocks=tuple((8, number) for _, number in real.blocks),
                   preprocessing=replace(real.preprocessing, size=32))

    def narrow(head: str = "fc", classes: int = 3) -> Network:
        return build(spec, head, classes)

    return narrow


@pytest.fixture
def small_weights() -> Callable[[str], dict[str, np.ndarray[Any, Any]]]:
    """Values for every variable of a network, by TF-Slim name: the real ranks, and at most 8 of everything but the
    inputs of VGG's fc6, whose flattening is what differs between formats."""
    random = np.random.default_rng(3)

    def values(net: str) -> dict[str, np.ndarray[Any, Any]]:
        return {name: random.standard_normal((7, 7, 512, 4) if name.endswith("fc6/weights") else
                                             tuple(min(size, 8) for size in shape), dtype=np.float32)
                for name, shape in slim_shapes(NETS[net]).items()}

    return values


@pytest.fixture
def arrays() -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a small TF-Slim checkpoint."""
    random = np.random.default_rng(7)
    return {
        "vgg_16/conv1/conv1_1/weights": random.standard_normal((3, 3, 3, 2), dtype=np.float32),
        "vgg_16/conv1/conv1_1/biases": random.standard_normal(2, dtype=np.float32),
        "vgg_16/mean_rgb": np.array([123.68, 116.78, 103.94], np.float32),
        "global_step": np.array(6000, np.int64),
    }
