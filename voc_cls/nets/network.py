"""A built network: its Keras model, the scopes it consists of, and where it can be cut in two."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import keras
from keras import KerasTensor as Tensor

from voc_cls.errors import UsageError
from voc_cls.nets import inception, nasnet, sequential
from voc_cls.nets.inception_tables import TABLES
from voc_cls.nets.layers import FC_DROPOUT, Backbone, MeanNormalization, Rescaling, add, fully_connected, slim_name
from voc_cls.nets.registry import HEADS, NetSpec, Normalisation, Resize, net_spec

GAP_SCALE = 10.0
"""Length given to the unit-norm features of the `gap` head: docs/decisions.md has the measurement."""
ATTENTION = 0.1
"""λ of the head csra, that of Zhu & Wu 2021 for VOC2007; docs/training.md has the measurement."""


@dataclass(frozen=True)
class Family:
    """How the networks of a family are built."""

    backbone: Callable[[NetSpec, Tensor, str], Backbone]
    """(spec, images, dtype policy) → everything before the head."""
    dropout: float = 0.0
    """Before the paper's classifier."""
    fc_bias: float | None = None
    """What the biases of fc6 and fc7, which fix the image size, start with; None if the paper's head is the mean of the
    grid."""


FAMILIES = {
    "vgg": Family(sequential.vgg, FC_DROPOUT, fc_bias=0.0),
    "alexnet": Family(sequential.alexnet, FC_DROPOUT, fc_bias=sequential.ALEXNET_BIAS),
    "resnet_v1": Family(sequential.resnet),
    "resnet_v2": Family(sequential.resnet),
    **{family: Family(inception.backbone, inception.DROPOUT) for family in TABLES},
    "mobilenet_v1": Family(sequential.mobilenet, sequential.MOBILENET_DROPOUT),
    "nasnet": Family(nasnet.backbone, nasnet.DROPOUT),
}


@dataclass(frozen=True)
class Network:
    """`model` maps float32 [N, size, size, 3] preprocessed images to float32 [N, classes] logits.

    `entries` has, for every top-level scope in order (conv1 … m_fc8; conv1, block1 … m_logits), the one tensor that
    enters it: there the network can be cut into a frozen backbone and the part that is trained; None where two tensors
    enter, so that it cannot. `grid` is the last grid of features, float [N, h, w, channels], after its ReLU and before
    any pool.
    """

    spec: NetSpec
    head: str
    model: keras.Model
    entries: dict[str, Tensor | None]
    grid: Tensor

    @property
    def scopes(self) -> tuple[str, ...]:
        """Names of the parts that hold variables, from the input to the logits."""
        return tuple(self.entries)

    @property
    def grids(self) -> Tensor | list[Tensor]:
        """What the head sees: `grid`, of csra after its norm; both grids of gap+max+lower, the last one first."""
        *_, last, head = self.entries.values()
        return {"gap+max+lower": [self.grid, last], "csra": head}.get(self.head, self.grid)

    @property
    def attention(self) -> float:
        """λ of the head csra; 0: the classifier has one place."""
        return ATTENTION if self.head == "csra" else 0.0

    @property
    def classes(self) -> int:
        """Number of labels."""
        return int(self.model.output_shape[-1])

    def cut(self, scope: str) -> tuple[keras.Model, keras.Model]:
        """(everything before `scope`, `scope` and what follows): two models that share this network's layers."""
        return keras.Model(self.model.input, self.entries[scope]), keras.Model(self.entries[scope], self.model.output)

    def at_any_size(self) -> keras.Model:
        """A model that shares this network's layers: float32 [N, height, width, 3] → float32 [N, classes].

        All layers are convolutions, so a larger image gives a larger grid. Most heads take the mean of this grid
        (ResNet, Inception, gap). fc6 and fc7 give logits at every place that the network's own input fits into, 32
        pixels apart, whose mean is taken: the "dense evaluation" of Simonyan & Zisserman 2014, section 3.2. One model
        for all sizes: Keras traces a new one for each model. UsageError for a head that takes one size only.
        """
        if self.head == "flatten":
            raise UsageError("`tta` multi-scale: not with `head` flatten, which takes one size only; choose flip")
        images = keras.Input((None, None, 3), name="images")
        first, *inner, _ = self.model.layers  # the last one flattens
        outputs = {id(first.output): images}
        for layer in inner:
            inputs = keras.tree.map_structure(lambda tensor: outputs[id(tensor)], layer.input)
            outputs[id(layer.output)] = logits = layer(inputs)
        return keras.Model(images, keras.layers.GlobalAveragePooling2D(dtype="float32", name="mean")(logits))

    def rescaled(self, slope: float, offset: float) -> Network:
        """The network with slope × logit + offset in place of each logit; it shares all layers but the last one, which
        flattens."""
        line = Rescaling(slope, offset, dtype="float32", name="calibration")(self.model.layers[-1].input)
        logits = keras.layers.Flatten(dtype="float32", name="logits")(line)
        return replace(self, model=keras.Model(self.model.input, logits, name=self.spec.name))

    def variables(self) -> dict[str, keras.Variable]:
        """The weights by TF-Slim name, such as `vgg_16/conv1/conv1_1/weights`; no states of random generators."""
        return {name: variable for variable in self.model.weights if (name := slim_name(variable)) is not None}

    def is_head(self, name: str) -> bool:
        """Whether a TF-Slim variable name belongs to a classifier: ours, or the one it replaces."""
        return name.startswith((self.spec.path(f"{self.spec.head}/"), self.spec.path(f"{self.spec.slim_head}/")))


def build_network(net: str, head: str, classes: int, precision: str = "float32",
                  image_size: int | None = None, normalisation: Normalisation = "auto",
                  cut: str | None = None, resize: Resize = "bilinear") -> Network:
    """Builds the network `net` with a new head for `classes` labels, randomly initialised.

    `head` and `precision` are as for `build`, the others as for `net_spec`. UsageError names an unknown net, head or
    cut, and a size that they cannot take.
    """
    if head not in HEADS:
        raise UsageError(f"`head` {head}: no such head; known are {', '.join(HEADS)}")
    if classes < 1:
        raise UsageError(f"`classes` {classes}: a network needs at least one")
    own, spec = net_spec(net), net_spec(net, image_size, normalisation, cut, resize)
    fixed = head == "fc" and FAMILIES[spec.family].fc_bias is not None
    if fixed and cut is not None:
        raise UsageError(f"`cut` {cut}: the layers of `head` fc are made for the whole {net}; choose `head` flatten, "
                         "gap or gap+max")
    if fixed and spec.preprocessing.size != own.preprocessing.size:
        raise UsageError(f"`image_size` {image_size}: the layers of `head` fc are made for {own.preprocessing.size}; "
                         "choose `head` gap or gap+max")
    return build(spec, head, classes, precision)


Built = TypeVar("Built")


def without_values(built: Callable[[], Built]) -> Built:
    """What a function builds of Keras' layers, with variables that have shapes, and neither values nor memory for them.

    It is called in a thread of its own, with which its variables are forgotten: otherwise Keras would give them values
    together with those of the next network, seconds and half a gigabyte for VGG-16.
    """
    def in_scope() -> Built:
        with keras.StatelessScope(initialize_variables=False):
            return built()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(in_scope).result()


def build(spec: NetSpec, head: str, classes: int, precision: str = "float32") -> Network:
    """Builds `spec`, whose sizes need not be those of the registry, with a new head, randomly initialised.

    Head "fc" is the paper's: fc6 and fc7, or the mean of the last grid, with its dropout. "gap": the mean of the grid,
    L2-normalised and scaled: for when only the convolutions are pretrained. "gap+max": the grid's maximum beside its
    mean, so that small objects are not averaged away. "gap+max+lower": also the maximum of the grid that enters the
    last scope (VGG: conv4_3's, pooled), whose places are smaller. "csra": the classifier at each place of the grid,
    its mean plus λ times its maximum: class-specific residual attention (Zhu & Wu 2021, arXiv:2108.02456) at its
    sharpest, T → ∞. "flatten": a dense layer on all of the grid's values.
    `precision` is a Keras dtype policy; the classifier and the logits are float32 in each of them.
    """
    size, family = spec.preprocessing.size, FAMILIES[spec.family]
    images = keras.Input((size, size, 3), name="images")
    with keras.name_scope(spec.scope) if spec.scope else nullcontext():
        backbone = _backbone(spec, images, precision)
        scope, lower = list(backbone.entries.items())[-1]
        if head == "gap+max+lower" and lower is None:
            raise UsageError(f"`head` {head}: two grids enter {scope} of {spec.name}, not one; choose gap+max")
        if head == "flatten":
            values = (1, 1, math.prod(backbone.features.shape[1:]))
            x = keras.layers.Reshape(values, dtype="float32", name="flatten")(backbone.features)
        elif head == "csra":
            x = MeanNormalization(dtype=precision, name="mean_norm")(backbone.features)
            x = Rescaling(GAP_SCALE, dtype=precision, name="scale")(x)
        elif head != "fc":
            maxima = {"gap": [], "gap+max": [backbone.features], "gap+max+lower": [backbone.features, lower]}[head]
            x = _pooled(backbone.features, maxima)
        elif family.fc_bias is not None:
            x = fully_connected(backbone, precision, family.fc_bias)
        else:
            x = _grid_mean(backbone.features)
        entries = {**backbone.entries, spec.head: x}
        if head == "fc" and family.dropout:
            x = keras.layers.Dropout(family.dropout, dtype="float32", name="dropout7")(x)
        x = keras.layers.Conv2D(classes, 1, dtype="float32", name=spec.head)(x)
        if head == "csra":
            maximum = keras.layers.GlobalMaxPooling2D(keepdims=True, dtype="float32", name="class_max")(x)
            x = add(_grid_mean(x), maximum, "class_attention", "float32", relu=False, scale=ATTENTION)
        logits = keras.layers.Flatten(dtype="float32", name="logits")(x)
    return Network(spec, head, keras.Model(images, logits, name=spec.name), entries, backbone.grid)


def _backbone(spec: NetSpec, images: Tensor, precision: str) -> Backbone:
    """Everything before the head: the family's, up to `spec.cut`."""
    build_whole, cut, size = FAMILIES[spec.family].backbone, spec.cut, spec.preprocessing.size
    if cut is None:
        return build_whole(spec, images, precision)
    try:
        whole = build_whole(spec, images, precision)
    except ValueError as error:  # of a later layer, which finds no grid
        if size >= spec.smallest:
            raise
        raise UsageError(f"`image_size` {size}: too small for {spec.name}, which needs {spec.smallest}, also with "
                         "`cut`") from error
    paths = {layer.name.replace(".", "/"): layer for layer in keras.Model(images, whole.features).layers[1:]}
    inside = [path for path in paths if f"{path}/".startswith(f"{cut}/")]
    if not inside:
        known = dict.fromkeys(path.split("/")[0] for path in paths)
        raise UsageError(f"`cut` {cut}: {spec.name} has no such scope or pool before its head; there are "
                         f"{', '.join(known)}")
    last = paths[inside[-1]]  # Keras sorts them by their distance from the end
    features = last.output
    is_pool = isinstance(last, (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D))
    kept = [layer.name.replace(".", "/") for layer in keras.Model(images, features).layers]
    entries = {scope: entry for scope, entry in whole.entries.items()
               if any(f"{path}/".startswith(f"{scope}/") for path in kept)}
    return Backbone(features, last.input if is_pool else features, entries)


def _grid_mean(features: Tensor) -> Tensor:
    return keras.layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name="gap")(features)


def _pooled(averaged: Tensor, maxima: Sequence[Tensor]) -> Tensor:
    """The mean of the grid `averaged` and the maxima of others, each of unit length, side by side and scaled."""
    parts = [keras.layers.UnitNormalization(dtype="float32", name="unit_norm")(_grid_mean(averaged))]
    for grid, name in zip(maxima, ("max", "max_lower"), strict=False):
        maximum = keras.layers.GlobalMaxPooling2D(keepdims=True, dtype="float32", name=f"gmp{name[3:]}")(grid)
        parts.append(keras.layers.UnitNormalization(dtype="float32", name=f"unit_norm_{name}")(maximum))
    pooled = keras.layers.Concatenate(dtype="float32", name="average_and_maximum")(parts) if maxima else parts[0]
    return Rescaling(GAP_SCALE, dtype="float32", name="scale")(pooled)
