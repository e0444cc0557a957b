"""What `fit` runs on: the whole network on pictures, or its trained part on the outputs of the frozen trunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from voc_cls.data.dataset import Dataset
from voc_cls.data.pipeline import Order, feature_batches, picture_batches, training_batches
from voc_cls.nets.network import Network, build_network
from voc_cls.training.precision import policy
from voc_cls.training.trunk import BATCH_SIZE, feature_bytes, trunk_features

GIGABYTE = 1e9


@dataclass(frozen=True)
class Part:
    """`model` shares the network's layers; `batches` gives it training data, `inputs` what it predicts from."""

    model: keras.Model
    batches: Callable[[Order], Any]
    inputs: Callable[[Dataset], Any]
    description: str


def whole_network(network: Network, train: Dataset) -> Part:
    """Every step decodes its pictures and runs all layers."""
    preprocessing = network.spec.preprocessing
    return Part(
        model=network.model,
        batches=lambda order: training_batches(train.paths, train.targets, order, preprocessing),
        inputs=lambda dataset: picture_batches(dataset.paths, BATCH_SIZE, preprocessing),
        description="the whole network, on pictures",
    )


def on_trunk_outputs(network: Network, first: str, train: Dataset, flip: bool, precision: str) -> Part:
    """The trunk runs once over the training pictures, mirrored too with `flip`; the rest of the network is the part.

    precision: number format of the trunk, which only runs forward.
    """
    inference = build_network(network.spec.name, network.head, network.classes, policy(precision))
    inference.model.set_weights(network.model.get_weights())
    trunk, _ = inference.cut(first)
    _, model = network.cut(first)
    preprocessing = network.spec.preprocessing
    features = trunk_features(trunk, train.paths, preprocessing, flip)
    return Part(
        model=model,
        batches=lambda order: feature_batches(features, train.targets, order),
        inputs=lambda dataset: trunk_features(trunk, dataset.paths, preprocessing, flip=False)[0],
        description=f"{first} and what follows, on the frozen trunk's outputs (computed once, in {precision})",
    )


def trunk_fits(network: Network, first: str, pictures: int, memory_gb: float) -> bool:
    """Whether there is a frozen trunk at all, and its outputs for `pictures` stay below `memory_gb` gigabytes."""
    if first == network.scopes[0]:
        return False
    trunk, _ = network.cut(first)
    return feature_bytes(trunk, pictures) <= memory_gb * GIGABYTE
