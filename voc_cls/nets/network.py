"""A built network: its Keras model, the scopes it consists of, and where it can be cut in two."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from voc_cls.errors import UsageError
from voc_cls.nets.registry import HEADS, NetSpec, net_spec

SLIM_NAMES = {"kernel": "weights", "bias": "biases"}
"""Keras' names of a layer's variables → TF-Slim's."""


@dataclass(frozen=True)
class Network:
    """`model` maps float32 [N, size, size, 3] preprocessed pictures to float32 [N, classes] logits.

    `entries` has, for every scope in order (conv1 … m_fc8), the tensor that enters it: there the network can be
    cut into a frozen trunk and the part that is trained.
    """

    spec: NetSpec
    head: str
    model: keras.Model
    entries: dict[str, keras.KerasTensor]

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
        named = {}
        for variable in self.model.weights:
            path, _, last = variable.path.rpartition("/")
            if last in SLIM_NAMES:
                named[f"{path}/{SLIM_NAMES[last]}"] = variable
        return named

    def is_head(self, slim_name: str) -> bool:
        """Whether a TF-Slim variable name belongs to a classifier: ours, or the one it replaces."""
        scope = slim_name.removeprefix(f"{self.spec.name}/").split("/")[0]
        return scope in (self.spec.head, self.spec.slim_head)


def build_network(net: str, head: str, classes: int, precision: str = "float32",
                  image_size: int | None = None) -> Network:
    """Builds the network `net` with a new head for `classes` labels, for pictures of its own size or `image_size`.

    UsageError names an unknown net or head, and a size that they cannot take.
    """
    from voc_cls.nets.vgg import build_vgg

    if head not in HEADS:
        raise UsageError(f"--head {head}: no such head; known are {', '.join(HEADS)}")
    if classes < 1:
        raise UsageError(f"a network needs at least one class, got {classes}")
    own, spec = net_spec(net), net_spec(net, image_size)
    if head == "fc" and spec != own:
        raise UsageError(f"--image-size {image_size}: the layers of --head fc are made for {own.preprocessing.size}; "
                         "choose --head gap or gap+max")
    return build_vgg(spec, head, classes, precision)
