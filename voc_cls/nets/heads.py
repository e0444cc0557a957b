"""The heads that end a network, after the trunk: the paper's own, or the last grid pooled; then the new classifier."""

from __future__ import annotations

import keras

from voc_cls.nets.architectures import Architecture
from voc_cls.nets.keras_layers import KerasLayers
from voc_cls.nets.registry import NetSpec

GAP_SCALE = 10.0
"""Length given to the unit-norm features of the `gap` head: docs/decisions.md has the measurement."""


def add_head(layers: KerasLayers, architecture: Architecture, spec: NetSpec, head: str, classes: int,
             features: keras.KerasTensor) -> keras.KerasTensor:
    """Features after the trunk → logits, float32 [N, classes]; the classifier starts Glorot uniform and with zeros.

    "fc" is the paper's: fc6 and fc7, or the mean of the last grid, with its dropout. "gap": the mean of the grid,
    L2-normalised and scaled: for when only the convolutions are pretrained. "gap+max": the grid's maximum beside its
    mean, so that small objects are not averaged away.
    """
    if head == "fc":
        features = architecture.head(layers, spec, features)
    else:
        features = _pooled(layers, features, with_maximum=head == "gap+max")
    layers.enter(spec.head, features)
    if head == "fc" and architecture.dropout:
        features = keras.layers.Dropout(architecture.dropout, dtype="float32", name="dropout7")(features)
    logits = keras.layers.Conv2D(classes, 1, dtype="float32", name=spec.head)(features)
    return keras.layers.Flatten(dtype="float32", name="logits")(logits)


def _pooled(layers: KerasLayers, features: keras.KerasTensor, with_maximum: bool) -> keras.KerasTensor:
    pooled = keras.layers.UnitNormalization(dtype="float32", name="unit_norm")(layers.grid_mean(features))
    if with_maximum:
        maximum = keras.layers.GlobalMaxPooling2D(keepdims=True, dtype="float32", name="gmp")(features)
        maximum = keras.layers.UnitNormalization(dtype="float32", name="unit_norm_max")(maximum)
        pooled = keras.layers.Concatenate(dtype="float32", name="average_and_maximum")([pooled, maximum])
    return keras.layers.Rescaling(GAP_SCALE, dtype="float32", name="scale")(pooled)
