"""keras.applications' names: VGG16, VGG19, ResNet50/101/152 and ResNet50V2/101V2/152V2.

Its VGG and ResNet (v1) take blue, green, red ("caffe" mode), so the input channels of the first kernel are reversed; V2
takes RGB from -1 to 1 ("tf" mode). Kernels are stored as TF-Slim's; dense layers are matrices with rows in the order
height, width, channel. ResNet's convolutions have biases, which TF-Slim's lack: see `TensorMapping.folded`.

With the same random weights and picture, the largest difference of the logits, relative to the largest logit: VGG16
8e-6; ResNet50 2e-6 at 65 pixels, where both pad the first grid alike, and 0.03 at 224; ResNet50V2 0.003 and 0.015.

tf2onnx has its own names for the initialisers that it makes of Keras' VGG16 and VGG19: kernels are output, input,
height, width there, dense layers Keras' matrices. It merges the batch normalisation of a ResNet into the convolutions,
so those networks do not come back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from voc_cls.nets.registry import NetSpec
from voc_cls.weights.naming import NORM, OIHW, LayerName, Layout, NamingScheme, TensorMapping, map_tensors, vgg_layers
from voc_cls.weights.tensors import TensorInfo

VARIABLES = {"weights": "/kernel", "biases": "/bias", **{name: f"/{name}" for name in NORM}}

VGG = vgg_layers("block{block}_conv{unit}", "fc1", "fc2", "predictions")
_V1, _V2 = "block{block}/unit_{unit}/bottleneck_v1", "block{block}/unit_{unit}/bottleneck_v2"
_UNIT = "conv{stage}_block{unit}"
RESNET_V1 = (  # in the order of the model's layers, which the legacy .h5 depends on
    LayerName("conv1", "conv1_conv", "unbiased"),
    LayerName("conv1/BatchNorm", "conv1_bn", "norm", folds="conv1_conv"),
    LayerName(f"{_V1}/conv1", f"{_UNIT}_1_conv", "unbiased"),
    LayerName(f"{_V1}/conv1/BatchNorm", f"{_UNIT}_1_bn", "norm", folds=f"{_UNIT}_1_conv"),
    LayerName(f"{_V1}/conv2", f"{_UNIT}_2_conv", "unbiased"),
    LayerName(f"{_V1}/conv2/BatchNorm", f"{_UNIT}_2_bn", "norm", folds=f"{_UNIT}_2_conv"),
    LayerName(f"{_V1}/shortcut", f"{_UNIT}_0_conv", "unbiased"),
    LayerName(f"{_V1}/conv3", f"{_UNIT}_3_conv", "unbiased"),
    LayerName(f"{_V1}/shortcut/BatchNorm", f"{_UNIT}_0_bn", "norm", folds=f"{_UNIT}_0_conv"),
    LayerName(f"{_V1}/conv3/BatchNorm", f"{_UNIT}_3_bn", "norm", folds=f"{_UNIT}_3_conv"),
    LayerName("logits", "predictions", "dense"),
    LayerName("m_logits", "m_logits", "dense"),
)
RESNET_50_OF_2015 = (  # the names before keras-applications 1.0.8
    LayerName("conv1", "conv1", "unbiased"),
    LayerName("conv1/BatchNorm", "bn_conv1", "norm", folds="conv1"),
    *(row for slim, foreign in (("conv1", "2a"), ("conv2", "2b"), ("conv3", "2c"), ("shortcut", "1")) for row in (
        LayerName(f"{_V1}/{slim}", f"res{{stage}}{{letter}}_branch{foreign}", "unbiased"),
        LayerName(f"{_V1}/{slim}/BatchNorm", f"bn{{stage}}{{letter}}_branch{foreign}", "norm",
             folds=f"res{{stage}}{{letter}}_branch{foreign}"))),
    LayerName("logits", "fc1000", "dense"),
)
RESNET_V2 = (
    LayerName("conv1", "conv1_conv", "convolution"),
    LayerName(f"{_V2}/preact", f"{_UNIT}_preact_bn", "norm"),
    LayerName(f"{_V2}/conv1", f"{_UNIT}_1_conv", "unbiased"),
    LayerName(f"{_V2}/conv1/BatchNorm", f"{_UNIT}_1_bn", "norm"),
    LayerName(f"{_V2}/conv2", f"{_UNIT}_2_conv", "unbiased"),
    LayerName(f"{_V2}/conv2/BatchNorm", f"{_UNIT}_2_bn", "norm"),
    LayerName(f"{_V2}/shortcut", f"{_UNIT}_0_conv", "convolution"),
    LayerName(f"{_V2}/conv3", f"{_UNIT}_3_conv", "convolution"),
    LayerName("postnorm", "post_bn", "norm"),
    LayerName("logits", "predictions", "dense"),
    LayerName("m_logits", "m_logits", "dense"),
)
TABLES = {"vgg": VGG, "resnet_v1": RESNET_V1, "resnet_v2": RESNET_V2}
BGR = ("vgg", "resnet_v1")
FIRST = ("conv1/conv1_1", "conv1")
"""The layers that see the picture."""

MODELS = {"vgg_16": "VGG16", "vgg_19": "VGG19", "resnet_v1_50": "ResNet50", "resnet_v1_101": "ResNet101",
          "resnet_v1_152": "ResNet152", "resnet_v2_50": "ResNet50V2", "resnet_v2_101": "ResNet101V2",
          "resnet_v2_152": "ResNet152V2"}
"""Network → its function in keras.applications."""
MARKS = {"block5_conv4": "vgg_19", "block5_conv3": "vgg_16", "conv4_block36_preact_bn": "resnet_v2_152",
         "conv4_block23_preact_bn": "resnet_v2_101", "conv4_block6_preact_bn": "resnet_v2_50",
         "conv4_block36_3_conv": "resnet_v1_152", "conv4_block23_3_conv": "resnet_v1_101",
         "conv4_block6_3_conv": "resnet_v1_50", "res4f_branch2c": "resnet_v1_50"}
"""A layer that the network has and the ones after it here have not."""
POOL = ("Keras' ResNets pad the grid before their first max-pooling on both sides and TF-Slim's on one, so that at "
        "{size} pixels everything behind is shifted by half a place: the weights are the same, the outputs not quite")
TF2ONNX_NAME = re.compile(r"(?:.*/)?(?P<layer>block\d_conv\d|fc1|fc2|predictions)(?:_\d+)?/"
                          r"(?P<what>(?:convolution|Conv2D)/ReadVariableOp|MatMul/ReadVariableOp|"
                          r"Squeeze|(?:Reshape|BiasAdd|Add|add)/ReadVariableOp)(?::0)?")
"""Such as functional_1/block1_conv1_1/convolution/ReadVariableOp:0 (Keras 3) or vgg16/fc1/MatMul/ReadVariableOp:0."""


def recognise(names: Iterable[str]) -> str | None:
    """The network whose layers a file has; None where it is of another library."""
    layers = {name.rpartition("/")[0] for name in names}
    return next((net for layer, net in MARKS.items() if layer in layers), None)


def mappings(spec: NetSpec, tensors: Mapping[str, TensorInfo]) -> tuple[TensorMapping, ...]:
    """The tensors of `spec`, without what `tensors` lacks; in the order of Keras' layers and their variables."""
    table = RESNET_50_OF_2015 if "res2a_branch2a/kernel" in tensors else TABLES.get(spec.family, ())
    return map_tensors(spec, table, tensors, VARIABLES, bgr=FIRST if spec.family in BGR else ())


def tf2onnx_mappings(spec: NetSpec, tensors: Mapping[str, TensorInfo]) -> tuple[TensorMapping, ...]:
    """The tensors of `spec`, without what `tensors` lacks: only in, nothing is written in these names."""
    initialisers = _keras_names(tensors)
    named = {name: tensors[initialiser] for name, initialiser in initialisers.items()}
    tf2onnx = []
    for mapping in mappings(spec, named):
        kernel = len(named[mapping.foreign].shape) == 4
        layout = Layout(OIHW, bgr=mapping.layout.bgr) if kernel else mapping.layout
        tf2onnx.append(TensorMapping(mapping.slim, initialisers[mapping.foreign], layout))
    return tuple(tf2onnx)


def _keras_names(names: Iterable[str]) -> dict[str, str]:
    """Keras' name → tf2onnx's."""
    named = {}
    for name in names:
        if match := TF2ONNX_NAME.fullmatch(name):
            variable = "kernel" if match["what"].startswith(("convolution/", "Conv2D/", "MatMul/")) else "bias"
            named[f"{match['layer']}/{variable}"] = name
    return named


SCHEME = NamingScheme("keras", "auto", recognise, mappings,
                      {"resnet_v1": POOL.format(size=224), "resnet_v2": POOL.format(size=299)})
TF2ONNX = NamingScheme("tf2onnx", "auto", lambda names: recognise(_keras_names(names)), tf2onnx_mappings)
