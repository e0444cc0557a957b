"""Names of Hugging Face's transformers: ResNetForImageClassification and ResNetModel (without `resnet.` before names).

Layouts are PyTorch's. Its ResNets halve the grid where torchvision's do (v1.5). They are read and not written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from voc_cls.nets.registry import NetSpec
from voc_cls.weights.naming import OIHW, LayerName, NamingScheme, TensorMapping, map_tensors
from voc_cls.weights.naming.torchvision import STRIDE, VARIABLES
from voc_cls.weights.tensors import TensorInfo

WITH_HEAD = "resnet."
"""Before the names of the backbone in a model that has a head."""
_SLIM, _LAYER = "block{block}/unit_{unit}/bottleneck_v1", "encoder.stages.{stage_index}.layers.{index}"
BACKBONE = tuple(row for slim, foreign in (
    ("conv1", "embedder.embedder"),
    *((f"{_SLIM}/conv{number}", f"{_LAYER}.layer.{number - 1}") for number in (1, 2, 3)),
    (f"{_SLIM}/shortcut", f"{_LAYER}.shortcut")) for row in (
        LayerName(slim, f"{foreign}.convolution", "unbiased"),
        LayerName(f"{slim}/BatchNorm", f"{foreign}.normalization", "norm")))
HEAD = LayerName("logits", "classifier.1", "dense")
MARKS = {f"encoder.stages.2.layers.{last}.layer.2.convolution.weight": net for last, net in (
    (35, "resnet_v1_152"), (22, "resnet_v1_101"), (5, "resnet_v1_50"))}
"""A tensor that the network has and the ones after it here have not."""


def recognise(names: Iterable[str]) -> str | None:
    """The network whose tensors a file has; None where it is of another library."""
    tensors = {name.removeprefix(WITH_HEAD) for name in names}
    return next((net for name, net in MARKS.items() if name in tensors), None)


def mappings(spec: NetSpec, tensors: Mapping[str, TensorInfo]) -> tuple[TensorMapping, ...]:
    """The tensors of `spec`, without what `tensors` lacks; nothing for another network than a ResNet v1."""
    start = WITH_HEAD if any(name.startswith(WITH_HEAD) for name in tensors) else ""
    table = (*(replace(row, foreign=f"{start}{row.foreign}") for row in BACKBONE), HEAD)
    return map_tensors(spec, table if spec.family == "resnet_v1" else (), tensors, VARIABLES, OIHW)


SCHEME = NamingScheme("transformers", "torch", recognise, mappings, {"resnet_v1": STRIDE},
                      (*MARKS, *(f"{WITH_HEAD}{mark}" for mark in MARKS)))
