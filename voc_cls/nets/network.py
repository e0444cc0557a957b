"""A built network: its Keras model, the scopes it consists of, and where it can be cut in two."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from voc_cls.errors import UsageError
from voc_cls.nets.architectures import ARCHITECTURES
from voc_cls.nets.heads import add_head
from voc_cls.nets.keras_layers import KerasLayers, slim_name
from voc_cls.nets.registry import HEADS, NetSpec, Normalisation, net_spec


@dataclass(frozen=True)
class Network:
    """`model` maps float32 [N, size, size, 3] preprocessed pictures to float32 [N, classes] logits.

    `entries` has, for every top-level scope in order (conv1 … m_fc8, conv1, block1 … m_logits), the one tensor that
    enters it: there the network can be cut into a frozen trunk and the part that is trained. `grid` is the last grid of
    features, float [N, h, w, channels], after its ReLU and before any pool.
    """

    spec: NetSpec
    head: str
    model: keras.Model
    entries: dict[str, keras.KerasTensor]
    grid: keras.KerasTensor

    @property
    def scopes(self) -> tuple[str, ...]:
        """Names of the parts that hold variables, from the input to the logits."""
        return tuple(self.entries)

    @property
    def classes(self) -> int:
        """Number of labels."""
        return int(self.model.output_shape[-1])

    def cut(self, scope: str) -> tuple[keras.Model, keras.Model]:
        """(everything before `scope`, `scope` and what follows): two models that share this network's layers."""
        return keras.Model(self.model.input, self.entries[scope]), keras.Model(self.entries[scope], self.model.output)

    def variables(self) -> dict[str, keras.Variable]:
        """The weights by TF-Slim name, such as `vgg_16/conv1/conv1_1/weights`; random-generator states left out."""
        return {name: variable for variable in self.model.weights if (name := slim_name(variable)) is not None}

    def is_head(self, name: str) -> bool:
        """Whether a TF-Slim variable name belongs to a classifier: ours, or the one it replaces."""
        path = name.removeprefix(f"{self.spec.scope}/")
        return path.startswith((f"{self.spec.head}/", f"{self.spec.slim_head}/"))


def build_network(net: str, head: str, classes: int, precision: str = "float32",
                  image_size: int | None = None, normalisation: Normalisation = "auto") -> Network:
    """Builds the network `net` with a new head for `classes` labels, for pictures of its own size or `image_size`.

    normalisation: as for `net_spec`.
    UsageError names an unknown net or head, and a size that they cannot take.
    """
    if head not in HEADS:
        raise UsageError(f"--head {head}: no such head; known are {', '.join(HEADS)}")
    if classes < 1:
        raise UsageError(f"a network needs at least one class, got {classes}")
    own, spec = net_spec(net), net_spec(net, image_size, normalisation)
    fixed = head == "fc" and not ARCHITECTURES[spec.family].any_size
    if fixed and spec.preprocessing.size != own.preprocessing.size:
        raise UsageError(f"--image-size {image_size}: the layers of --head fc are made for {own.preprocessing.size}; "
                         "choose --head gap or gap+max")
    return build(spec, head, classes, precision)


def build(spec: NetSpec, head: str, classes: int, precision: str = "float32") -> Network:
    """Builds `spec` with a new head (see `add_head`) for `classes` labels, randomly initialised.

    precision: a Keras dtype policy; the classifier and the logits are float32 in each of them.
    """
    size, architecture = spec.preprocessing.size, ARCHITECTURES[spec.family]
    layers = KerasLayers(architecture, precision)
    images = keras.Input((size, size, 3), name="images")
    with keras.name_scope(spec.scope):
        features = architecture.trunk(layers, spec, images)
        logits = add_head(layers, architecture, spec, head, classes, features)
    return Network(spec, head, keras.Model(images, logits, name=spec.name), layers.entries, layers.grid)
