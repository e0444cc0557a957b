"""TF-Slim's own names: which network they are of, and the spellings that published checkpoints have beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from voc_cls.nets.registry import NETS, net_spec
from voc_cls.weights.tensors import TensorInfo

AVERAGE = "/ExponentialMovingAverage"
"""Behind a variable's name: its average over the training. NASNet's checkpoints have nothing else (tensorflow/models,
issue 2656)."""
CLASSIFIERS = {"final_layer/fully_connected/": "final_layer/FC/"}
"""How the classifier was called when NASNet's checkpoints were written (issue 2648) → TF-Slim's name today."""
NASNET = "cell_stem_0/1x1/weights"
"""A variable that only NASNet has; its networks have no scope."""
LAST = "MobilenetV1/Conv2d_13_pointwise/weights"
"""A variable whose filters tell the width of a MobileNet-v1; all widths share one scope."""


def spellings(names: Iterable[str]) -> dict[str, str]:
    """TF-Slim's name → the file's; an average stands for the variable where the file has not got that."""
    known = set(names)
    named = {}
    for name in sorted(known):
        plain = name.removesuffix(AVERAGE)
        if plain != name and plain in known:
            plain = name  # a slot beside the variable
        for other, ours in CLASSIFIERS.items():
            plain = ours + plain.removeprefix(other) if plain.startswith(other) else plain
        named[plain] = name
    return named


def recognise(tensors: Mapping[str, TensorInfo], wanted: str | None) -> str | None:
    """The network that TF-Slim's names are of, None where they are of none; `wanted` where several share them."""
    scopes = {name.partition("/")[0] for name in tensors}
    nets = [spec.name for spec in NETS.values() if spec.scope and spec.scope in scopes]
    if NASNET in tensors:
        filters = 4 * tensors[NASNET].shape[-1]
        nets = ["nasnet_large" if filters == NETS["nasnet_large"].blocks[1][0] else "nasnet_mobile"]
    return of_width(nets[0], tensors, wanted) if nets else None


def of_width(net: str, tensors: Mapping[str, TensorInfo], wanted: str | None) -> str:
    """`net`; of the MobileNets the one whose width the tensors have: `wanted`, or one of the registry's."""
    if LAST not in tensors:
        return net
    filters = tensors[LAST].shape[-1:]
    alike = (name for name in (wanted, *NETS) if name and net_spec(name).family == "mobilenet_v1")
    return next((name for name in alike if net_spec(name).blocks[-1][:1] == filters), net)
