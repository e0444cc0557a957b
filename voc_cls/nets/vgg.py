"""VGG (Simonyan & Zisserman 2014, arXiv:1409.1556) with TF-Slim's layers and variable names.

Keras refuses `/` in a layer's name, but name scopes put it into the variables' paths:
`vgg_16/conv1/conv1_1/kernel` is TF-Slim's `vgg_16/conv1/conv1_1/weights`.
"""

from __future__ import annotations

import keras

from voc_cls.nets.network import Network
from voc_cls.nets.registry import NetSpec

DROPOUT = 0.5  # tf_slim.nets.vgg: dropout_keep_prob
FC_UNITS = 4096
GAP_SCALE = 10.0
"""Length given to the unit-norm features of the `gap` head: docs/decisions.md has the measurement."""


def build_vgg(spec: NetSpec, head: str, classes: int, precision: str) -> Network:
    """Builds `spec` for `classes` labels, randomly initialised (Glorot uniform and zeros, as TF-Slim does).

    head "fc": fc6 and fc7 as convolutions with dropout 0.5, then m_fc8: the network of the paper. head "gap": the
    average of pool5's grid, L2-normalised and scaled, then m_fc8: for when only the convolutions are pretrained.
    head "gap+max": the grid's maximum beside its average, so that small objects are not averaged away.
    precision: a Keras dtype policy; the classifier and the logits are float32 in each of them.
    """
    entries = {}
    images = keras.Input((spec.preprocessing.size, spec.preprocessing.size, 3), name="images")
    with keras.name_scope(spec.name):
        features = images
        for scope, (filters, convolutions) in zip(spec.trunk_scopes, spec.blocks, strict=True):
            entries[scope] = features
            with keras.name_scope(scope):
                for number in range(1, convolutions + 1):
                    features = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", dtype=precision,
                                                   name=f"{scope}_{number}")(features)
            features = keras.layers.MaxPooling2D(2, dtype=precision, name=scope.replace("conv", "pool"))(features)
        if head == "fc":
            for scope, kernel in (("fc6", spec.preprocessing.size // 32), ("fc7", 1)):
                entries[scope] = features
                features = keras.layers.Conv2D(FC_UNITS, kernel, activation="relu", dtype=precision,
                                               name=scope)(features)
                if scope == "fc6":
                    features = keras.layers.Dropout(DROPOUT, dtype=precision, name="dropout6")(features)
            entries[spec.head] = features
            features = keras.layers.Dropout(DROPOUT, dtype="float32", name="dropout7")(features)
        else:
            average = keras.layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name="gap")(features)
            pooled = keras.layers.UnitNormalization(dtype="float32", name="unit_norm")(average)
            if head == "gap+max":
                maximum = keras.layers.GlobalMaxPooling2D(keepdims=True, dtype="float32", name="gmp")(features)
                maximum = keras.layers.UnitNormalization(dtype="float32", name="unit_norm_max")(maximum)
                pooled = keras.layers.Concatenate(dtype="float32", name="average_and_maximum")([pooled, maximum])
            features = keras.layers.Rescaling(GAP_SCALE, dtype="float32", name="scale")(pooled)
            entries[spec.head] = features
        logits = keras.layers.Conv2D(classes, 1, dtype="float32", name=spec.head)(features)
        logits = keras.layers.Flatten(dtype="float32", name="logits")(logits)
    return Network(spec, head, keras.Model(images, logits, name=spec.name), entries)
