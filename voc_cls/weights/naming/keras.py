"""keras.applications' names: VGG16, VGG19, ResNet50/101/152, ResNet50V2/101V2/152V2, MobileNet, InceptionV3 and
InceptionResNetV2.

Its VGG and ResNet (v1) take blue, green, red ("caffe" mode), so the input channels of the first kernel are reversed; V2
takes RGB from -1 to 1 ("tf" mode). Kernels are stored as TF-Slim's; dense layers are matrices with rows in the order
height, width, channel. ResNet's convolutions have biases, which TF-Slim's lack: see `TensorMapping.folded`.

With the same random weights and picture, the largest difference of the logits, relative to the largest logit: VGG16
8e-6; ResNet50 2e-6 at 65 pixels, where both pad the first grid alike, and 0.03 at 224; ResNet50V2 0.003 and 0.015.

MobileNet, InceptionV3 and InceptionResNetV2 are the same functions as TF-Slim's, but MobileNet pads an odd grid that is
halved on other sides. Keras numbers the layers of the Inceptions, in TF-Slim's order; they are read and not written,
because a .h5 needs the order of Keras' own graph.

tf2onnx has its own names for the initialisers that it makes of Keras' VGG16 and VGG19: kernels are output, input,
height, width there, dense layers Keras' matrices. It merges the batch normalisation of a ResNet into the convolutions,
so those networks do not come back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from voc_cls.errors import WeightsError
from voc_cls.nets.inception_tables import RESIDUAL, Mixed, convolutions
from voc_cls.nets.inception_tables import TABLES as INCEPTIONS
from voc_cls.nets.registry import NetSpec
from voc_cls.weights import naming
from voc_cls.weights.naming import LayerName, Layout, NamingScheme, TensorMapping, normalised
from voc_cls.weights.tensors import TensorInfo

VARIABLES = {"weights": "/kernel", "depthwise_weights": "/kernel", "biases": "/bias",
             **{name: f"/{name}" for name in naming.NORM}}

VGG = naming.vgg_layers("block{block}_conv{unit}", "fc1", "fc2", "predictions")
_V1, _V2 = "block{block}/unit_{unit}/bottleneck_v1", "block{block}/unit_{unit}/bottleneck_v2"
_UNIT = "conv{stage}_block{unit}"
RESNET_V1 = (  # in the order of the model's layers, which the legacy .h5 depends on
    *normalised("conv1", "conv1_conv", "conv1_bn", folds=True),
    *normalised(f"{_V1}/conv1", f"{_UNIT}_1_conv", f"{_UNIT}_1_bn", folds=True),
    *normalised(f"{_V1}/conv2", f"{_UNIT}_2_conv", f"{_UNIT}_2_bn", folds=True),
    LayerName(f"{_V1}/shortcut", f"{_UNIT}_0_conv", "unbiased"),
    LayerName(f"{_V1}/conv3", f"{_UNIT}_3_conv", "unbiased"),
    LayerName(f"{_V1}/shortcut/BatchNorm", f"{_UNIT}_0_bn", "norm", folds=f"{_UNIT}_0_conv"),
    LayerName(f"{_V1}/conv3/BatchNorm", f"{_UNIT}_3_bn", "norm", folds=f"{_UNIT}_3_conv"),
    LayerName("logits", "predictions", "dense"),
    LayerName("m_logits", "m_logits", "dense"),
)
RESNET_50_OF_2015 = (  # the names before keras-applications 1.0.8
    *normalised("conv1", "conv1", "bn_conv1", folds=True),
    *(row for slim, foreign in (("conv1", "2a"), ("conv2", "2b"), ("conv3", "2c"), ("shortcut", "1"))
      for row in normalised(f"{_V1}/{slim}", f"res{{stage}}{{letter}}_branch{foreign}",
                            f"bn{{stage}}{{letter}}_branch{foreign}", folds=True)),
    LayerName("logits", "fc1000", "dense"),
)
RESNET_V2 = (
    LayerName("conv1", "conv1_conv", "convolution"),
    LayerName(f"{_V2}/preact", f"{_UNIT}_preact_bn", "norm"),
    *normalised(f"{_V2}/conv1", f"{_UNIT}_1_conv", f"{_UNIT}_1_bn"),
    *normalised(f"{_V2}/conv2", f"{_UNIT}_2_conv", f"{_UNIT}_2_bn"),
    LayerName(f"{_V2}/shortcut", f"{_UNIT}_0_conv", "convolution"),
    LayerName(f"{_V2}/conv3", f"{_UNIT}_3_conv", "convolution"),
    LayerName("postnorm", "post_bn", "norm"),
    LayerName("logits", "predictions", "dense"),
    LayerName("m_logits", "m_logits", "dense"),
)
MOBILENET_V1 = (
    *normalised("Conv2d_0", "conv1", "conv1_bn"),
    *(row for number in range(1, 14) for row in (
        LayerName(f"Conv2d_{number}_depthwise", f"conv_dw_{number}", "depthwise"),
        LayerName(f"Conv2d_{number}_depthwise/BatchNorm", f"conv_dw_{number}_bn", "norm"),
        *normalised(f"Conv2d_{number}_pointwise", f"conv_pw_{number}", f"conv_pw_{number}_bn"))),
    LayerName("Logits/Conv2d_1c_1x1", "conv_preds", "convolution"),
    LayerName("m_logits", "m_logits", "convolution"),
)
TABLES = {"vgg": VGG, "resnet_v1": RESNET_V1, "resnet_v2": RESNET_V2, "mobilenet_v1": MOBILENET_V1}
BGR = ("vgg", "resnet_v1")
FIRST = ("conv1/conv1_1", "conv1")
"""The layers that see the picture."""

MODELS = {"vgg_16": "VGG16", "vgg_19": "VGG19", "resnet_v1_50": "ResNet50", "resnet_v1_101": "ResNet101",
          "resnet_v1_152": "ResNet152", "resnet_v2_50": "ResNet50V2", "resnet_v2_101": "ResNet101V2",
          "resnet_v2_152": "ResNet152V2", "mobilenet_v1_1.0_224": "MobileNet"}
"""Network → its function in keras.applications, for those that are written."""
MARKS = {"block5_conv4": "vgg_19", "block5_conv3": "vgg_16", "conv4_block36_preact_bn": "resnet_v2_152",
         "conv4_block23_preact_bn": "resnet_v2_101", "conv4_block6_preact_bn": "resnet_v2_50",
         "conv4_block36_3_conv": "resnet_v1_152", "conv4_block23_3_conv": "resnet_v1_101",
         "conv4_block6_3_conv": "resnet_v1_50", "res4f_branch2c": "resnet_v1_50", "conv_pw_13": "mobilenet_v1_1.0_224",
         "block8_10_conv": "inception_resnet_v2"}
"""A layer that the network has and the ones after it here have not."""
NASNET = "stem_conv1"
"""A layer that only NASNetMobile and NASNetLarge have."""
COUNTED = re.compile(r"(?P<kind>conv2d|batch_normalization)(?:_(?P<number>\d+))?")
"""A layer that got its name from its class: conv2d, conv2d_1 and so on, counted in one Python process."""
V3_LAYERS = 94
"""Convolutions of InceptionV3, all of them counted."""
POOL = ("Keras' ResNets pad the grid before their first max-pooling on both sides and TF-Slim's on one, so that at "
        "{size} pixels everything behind is shifted by half a place: the weights are the same, the outputs not quite")
TF2ONNX_NAME = re.compile(r"(?:.*/)?(?P<layer>block\d_conv\d|fc1|fc2|predictions)(?:_\d+)?/"
                          r"(?P<what>(?:convolution|Conv2D)/ReadVariableOp|MatMul/ReadVariableOp|"
                          r"Squeeze|(?:Reshape|BiasAdd|Add|add)/ReadVariableOp)(?::0)?")
"""Such as functional_1/block1_conv1_1/convolution/ReadVariableOp:0 (Keras 3) or vgg16/fc1/MatMul/ReadVariableOp:0."""


def recognise(names: Iterable[str]) -> str | None:
    """The network whose layers a file has; None where it is of another library. WeightsError for Keras' NASNet."""
    layers = {name.rpartition("/")[0] for name in names}
    if NASNET in layers:
        raise WeightsError("the file is of keras.applications' NASNet, which is another function than TF-Slim's: its "
                           "reduction cells pool and pad otherwise; take TF-Slim's weights with `voc-weights fetch`")
    net = naming.marked(MARKS, layers)
    if net is None and len(_counted(layers)["conv2d"]) == len(_counted(layers)["batch_normalization"]) == V3_LAYERS:
        return "inception_v3"
    return net


def _counted(layers: Iterable[str]) -> dict[str, list[str]]:
    """Class of the counted layers → their names in the order in which they were made."""
    counted: dict[str, list[tuple[int, str]]] = {"conv2d": [], "batch_normalization": []}
    for layer in layers:
        if match := COUNTED.fullmatch(layer):
            counted[match["kind"]].append((int(match["number"] or 0), layer))
    return {kind: [name for _, name in sorted(names)] for kind, names in counted.items()}


def _inception(spec: NetSpec, names: Iterable[str]) -> list[LayerName]:
    """The layers of InceptionV3 or InceptionResNetV2 in a file; none where `names` are TF-Slim's."""
    counted, table = _counted({name.rpartition("/")[0] for name in names}), INCEPTIONS[spec.family]
    if not counted["conv2d"]:
        return []
    places = list(zip(convolutions(table), counted["conv2d"], counted["batch_normalization"], strict=False))
    residual = [row.name for row in table if isinstance(row, Mixed) and row.residual]
    return [
        *(row for place in places for row in normalised(*place)),
        *(LayerName(f"{name}/{RESIDUAL}", "block8_10_conv" if name == "Block8" else f"{name.rpartition('/')[2]}_conv",
                    "convolution") for name in residual),
        *normalised("Conv2d_7b_1x1", "conv_7b", "conv_7b_bn"),
        LayerName(spec.slim_head, "predictions", "dense"),
    ]


def mappings(spec: NetSpec, tensors: Mapping[str, TensorInfo]) -> tuple[TensorMapping, ...]:
    """The tensors of `spec`, without what `tensors` lacks; in the order of Keras' layers and their variables."""
    table: Iterable[LayerName] = TABLES.get(spec.family, ())
    if "res2a_branch2a/kernel" in tensors:
        table = RESNET_50_OF_2015
    elif spec.family in ("inception_v3", "inception_resnet_v2"):
        table = _inception(spec, tensors)
    return naming.map_tensors(spec, table, tensors, VARIABLES, bgr=FIRST if spec.family in BGR else ())


def tf2onnx_mappings(spec: NetSpec, tensors: Mapping[str, TensorInfo]) -> tuple[TensorMapping, ...]:
    """The tensors of `spec`, without what `tensors` lacks: only in, nothing is written in these names."""
    initialisers = _keras_names(tensors)
    named = {name: tensors[initialiser] for name, initialiser in initialisers.items()}
    tf2onnx = []
    for mapping in mappings(spec, named):
        kernel = len(named[mapping.foreign].shape) == 4
        layout = Layout(naming.OIHW, bgr=mapping.layout.bgr) if kernel else mapping.layout
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
