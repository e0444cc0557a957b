"""The names of VGG's NumPy files, which lie flat: a layer and W or b.

    conv1_1_W      vgg16_weights.npz of the University of Toronto, and files with only its conv… or fc… keys; RGB
    conv1_1/0      vgg16.npy and vgg19.npy of caffe-tensorflow, {layer: [W, b]}; BGR as all of Caffe's, and
    conv1_1/weights   the same as {layer: {"weights": W, "biases": b}}

Kernels are stored as TF-Slim's; dense layers are matrices with rows in the order height, width, channel.

Another scheme is that of the lecture's own network, written without TF-Slim: vgg16/conv1_1/kernel, vgg16/fc6/bias. All
its layers are convolutions, as TF-Slim's are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from voc_cls.nets.registry import NetSpec
from voc_cls.weights.naming import LayerName, NamingScheme, TensorMapping, map_tensors, marked, vgg_layers
from voc_cls.weights.tensors import TensorInfo

VARIABLES = {"weights": "_W", "biases": "_b"}
CAFFE = ({"weights": "/0", "biases": "/1"}, {"weights": "/weights", "biases": "/biases"})
VGG = vgg_layers("conv{block}_{unit}", "fc6", "fc7", "fc8")
MARKS = {"conv5_4": "vgg_19", "conv5_3": "vgg_16", "conv1_1": "vgg_16", "fc6": "vgg_16", "fc7": "vgg_16",
         "fc8": "vgg_16"}
"""A layer that the network has and the ones before it here have not; fc6 to fc8 alone may be of either."""
NAME = re.compile(r"(conv[1-5]_[1-4]|(m_)?fc[678])(_[Wb]|/[01]|/weights|/biases)")


def recognise(names: Iterable[str]) -> str | None:
    """The VGG whose layers a file has; None where no name is one of theirs."""
    return marked(MARKS, (match[1] for match in map(NAME.fullmatch, names) if match))


def mappings(spec: NetSpec, tensors: Mapping[str, TensorInfo]) -> tuple[TensorMapping, ...]:
    """The tensors of `spec`, without what `tensors` lacks; nothing for another network than a VGG."""
    endings = {match[3] for match in map(NAME.fullmatch, tensors) if match}
    caffe = next((variables for variables in CAFFE if endings & set(variables.values())), None)
    return map_tensors(spec, VGG if spec.family == "vgg" else (), tensors, caffe or VARIABLES,
                       bgr=("conv1/conv1_1",) if caffe else ())


def recognise_own(names: Iterable[str]) -> str | None:
    """The VGG whose layers a file of the lecture's own network has."""
    matches = (re.match(r"vgg(16|19)/(conv[1-5]_[1-4]|fc[678])/(kernel|bias)$", name) for name in names)
    return next((f"vgg_{match[1]}" for match in matches if match), None)


def own_mappings(spec: NetSpec, tensors: Mapping[str, TensorInfo]) -> tuple[TensorMapping, ...]:
    """As `mappings`."""
    scope = spec.scope.replace("_", "")
    table = [LayerName(layer.slim, f"{scope}/{layer.foreign}", "convolution") for layer in VGG]
    return map_tensors(spec, table if spec.family == "vgg" else (), tensors, {"weights": "/kernel", "biases": "/bias"})


SCHEME = NamingScheme("npz", "auto", recognise, mappings)
OWN = NamingScheme("the lecture's own VGG", "auto", recognise_own, own_mappings)
