"""The names of VGG's NumPy files, which lie flat: a layer and W or b.

    conv1_1_W      vgg16_weights.npz of the University of Toronto, and files with only its conv… or fc… keys; RGB
    conv1_1/0      vgg16.npy and vgg19.npy of caffe-tensorflow, {layer: [W, b]}; BGR as all of Caffe's, and
    conv1_1/weights   the same as {layer: {"weights": W, "biases": b}}

Kernels are stored as TF-Slim's; dense layers are matrices with rows in the order height, width, channel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from voc_cls.nets.registry import NetSpec
from voc_cls.weights.naming.dialect import Dialect, Row
from voc_cls.weights.naming.layout import KERNEL
from voc_cls.weights.naming.table import Line, dense_grid, layers, layout
from voc_cls.weights.tensors import TensorInfo

VARIABLES = {"_W": "weights", "_b": "biases"}
CAFFE = ({"/0": "weights", "/1": "biases"}, {"/weights": "weights", "/biases": "biases"})
VGG = (
    Line("conv{block}/conv{block}_{unit}", "conv{block}_{unit}", "convolution"),
    Line("fc6", "fc6", "dense"),
    Line("fc7", "fc7", "dense"),
    Line("fc8", "fc8", "dense"),
    Line("m_fc8", "m_fc8", "dense"),
)
MARKS = {"conv5_4": "vgg_19", "conv5_3": "vgg_16", "conv1_1": "vgg_16", "fc6": "vgg_16", "fc7": "vgg_16",
         "fc8": "vgg_16"}
"""A layer that the network has and the ones before it here have not; fc6 to fc8 alone may be of either."""
NAME = re.compile(r"(conv[1-5]_[1-4]|(m_)?fc[678])(_[Wb]|/[01]|/weights|/biases)")


def recognise(names: Iterable[str]) -> str | None:
    """The VGG whose layers a file has; None where no name is one of theirs."""
    found = {match[1] for match in map(NAME.fullmatch, names) if match}
    return next((net for layer, net in MARKS.items() if layer in found), None)


def rows(spec: NetSpec, tensors: Mapping[str, TensorInfo]) -> tuple[Row, ...]:
    """The map of `spec`, without what `tensors` lacks; nothing for another network than a VGG."""
    found = []
    for line in layers(VGG, spec) if spec.family == "vgg" else ():
        for variables in (VARIABLES, *CAFFE):
            for suffix, slim in variables.items():
                ours, theirs = f"{spec.scope}/{line.slim}/{slim}", f"{line.foreign}{suffix}"
                if theirs not in tensors and (ours not in tensors or variables is not VARIABLES):
                    continue
                grid = dense_grid(ours, theirs, tensors, KERNEL, spec.blocks[-1][0]) if line.slim == "fc6" else 1
                bgr = variables is not VARIABLES and line.foreign == "conv1_1"
                found.append(Row(ours, theirs, layout(line.kind, slim, KERNEL, grid, bgr)))
    return tuple(found)


DIALECT = Dialect("npz", "auto", recognise, rows)
