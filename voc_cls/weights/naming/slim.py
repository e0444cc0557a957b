"""TF-Slim's own names: those of a network, with shapes; which network names are of; and the spellings that published
checkpoints have beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from voc_cls.console import import_tensorflow
from voc_cls.errors import WeightsError
from voc_cls.nets.registry import NETS, NetSpec, net_spec
from voc_cls.weights.tensors import Shape, TensorInfo

AVERAGE = "/ExponentialMovingAverage"
"""Behind a variable's name: its average over the training. NASNet's checkpoints have nothing else (tensorflow/models,
issue 2656)."""
CLASSIFIER = "final_layer/fully_connected/", "final_layer/FC/"
"""How the classifier was called when NASNet's checkpoints were written (issue 2648) → TF-Slim's name today."""
NASNET = "cell_stem_0/1x1/weights"
"""A variable that only NASNet has; its networks have no scope."""
LAST = "MobilenetV1/Conv2d_13_pointwise/weights"
"""A variable whose filters tell the width of a MobileNet-v1; all widths share one scope."""


@cache
def slim_shapes(spec: NetSpec, classes: int | None = None) -> Mapping[str, Shape]:
    """TF-Slim name → shape of all variables of TF-Slim's network with `classes` logits (default: its ImageNet's).

    The classifier is TF-Slim's (`spec.slim_head`), and Inception v3, v4 and ResNet v2 have their auxiliary one
    (AuxLogits). The network is built without values, which takes seconds and no memory. Imports Keras.
    """
    import_tensorflow()  # quietly, before Keras does
    import keras

    from voc_cls.nets.inception import AUXILIARY, auxiliary_logits
    from voc_cls.nets.layers import slim_name
    from voc_cls.nets.network import build, without_values

    classes = classes or spec.imagenet_classes

    def built() -> keras.Model:
        network = build(spec, "fc", classes)
        outputs = [network.model.output]
        if spec.family in AUXILIARY:
            with keras.name_scope(spec.scope):
                outputs.append(auxiliary_logits(spec.family, network.entries["Mixed_7a"], classes, "float32"))
        return keras.Model(network.model.input, outputs)

    shapes = {spec.slim_path(name): tuple(variable.shape) for variable in without_values(built).weights
              if (name := slim_name(variable)) is not None}
    matrices = {spec.path(f"{scope}/weights") for scope in spec.matrices}
    return {name: shape[2:] if name in matrices else shape for name, shape in shapes.items()}


def spellings(names: Iterable[str]) -> dict[str, str]:
    """TF-Slim's name → the file's; an average stands for the variable where the file has not got that."""
    known = set(names)
    named = {}
    for name in sorted(known):
        plain = name.removesuffix(AVERAGE)
        if plain != name and plain in known:
            plain = name  # a slot beside the variable
        named[plain.replace(*CLASSIFIER)] = name
    return named


def recognise(tensors: Mapping[str, TensorInfo], wanted: str | None) -> str | None:
    """The network that TF-Slim's names are of, None where they are of none; as `of_size` where several share them."""
    scopes = {name.partition("/")[0] for name in tensors}
    if NASNET in tensors:
        return of_size("nasnet_mobile", tensors, wanted)
    net = next((spec.name for spec in NETS.values() if spec.scope and spec.scope in scopes), None)
    return net and of_size(net, tensors, wanted)


def of_size(net: str, tensors: Mapping[str, TensorInfo], wanted: str | None) -> str:
    """`net`; of several networks under its names the one with as many filters as the tensors: `wanted`, or the first.

    Raises WeightsError where `wanted` is another of them.
    """
    scope, asked = net_spec(net).scope, [net_spec(wanted)] if wanted else []
    telling = {"": NASNET, "MobilenetV1": LAST}.get(scope, "")
    if telling not in tensors:
        return net
    filters = tensors[telling].shape[-1:]
    right = [spec.name for spec in (*asked, *NETS.values()) if spec.scope == scope and filters == (
        spec.blocks[1][0] // 4 if telling == NASNET else spec.blocks[-1][0],)]
    if any(spec.scope == scope and spec.name not in right for spec in asked):
        raise WeightsError(f"it has the weights of {right[0] if right else 'another width'}, not of {wanted}: choose "
                           "the network with `net`, or another file")
    return right[0] if right else net
