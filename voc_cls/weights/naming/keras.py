"""keras.applications' names: VGG16, VGG19, ResNet50/101/152 and ResNet50V2/101V2/152V2.

Its VGG and ResNet (v1) take blue, green, red ("caffe" mode), so the input channels of the first kernel are reversed; V2
takes RGB from -1 to 1 ("tf" mode). Kernels are stored as TF-Slim's; dense layers are matrices with rows in the order
height, width, channel. ResNet's convolutions have biases, which TF-Slim's lack: see `Row.folded`.

With the same random weights and picture, the largest difference of the logits, relative to the largest logit: VGG16
8e-6; ResNet50 2e-6 at 65 pixels, where both pad the first grid alike, and 0.03 at 224; ResNet50V2 0.003 and 0.015.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from voc_cls.nets.registry import NETS, NetSpec
from voc_cls.weights.naming.dialect import Dialect, Row
from voc_cls.weights.naming.layout import KERNEL
from voc_cls.weights.naming.table import NORM, Line, dense_grid, layers, layout
from voc_cls.weights.tensors import TensorInfo

VARIABLES = {"convolution": {"weights": "kernel", "biases": "bias"}, "unbiased": {"weights": "kernel"},
             "dense": {"weights": "kernel", "biases": "bias"}, "norm": {name: name for name in NORM}}

VGG = (
    Line("conv{block}/conv{block}_{unit}", "block{block}_conv{unit}", "convolution"),
    Line("fc6", "fc1", "dense"),
    Line("fc7", "fc2", "dense"),
    Line("fc8", "predictions", "dense"),
    Line("m_fc8", "m_fc8", "dense"),
)
_V1, _V2 = "block{block}/unit_{unit}/bottleneck_v1", "block{block}/unit_{unit}/bottleneck_v2"
_UNIT = "conv{stage}_block{unit}"
RESNET_V1 = (  # in the order of the model's layers, which the legacy .h5 depends on
    Line("conv1", "conv1_conv", "unbiased"),
    Line("conv1/BatchNorm", "conv1_bn", "norm", folds="conv1_conv"),
    Line(f"{_V1}/conv1", f"{_UNIT}_1_conv", "unbiased"),
    Line(f"{_V1}/conv1/BatchNorm", f"{_UNIT}_1_bn", "norm", folds=f"{_UNIT}_1_conv"),
    Line(f"{_V1}/conv2", f"{_UNIT}_2_conv", "unbiased"),
    Line(f"{_V1}/conv2/BatchNorm", f"{_UNIT}_2_bn", "norm", folds=f"{_UNIT}_2_conv"),
    Line(f"{_V1}/shortcut", f"{_UNIT}_0_conv", "unbiased"),
    Line(f"{_V1}/conv3", f"{_UNIT}_3_conv", "unbiased"),
    Line(f"{_V1}/shortcut/BatchNorm", f"{_UNIT}_0_bn", "norm", folds=f"{_UNIT}_0_conv"),
    Line(f"{_V1}/conv3/BatchNorm", f"{_UNIT}_3_bn", "norm", folds=f"{_UNIT}_3_conv"),
    Line("logits", "predictions", "dense"),
    Line("m_logits", "m_logits", "dense"),
)
RESNET_50_OF_2015 = (  # the names before keras-applications 1.0.8
    Line("conv1", "conv1", "unbiased"),
    Line("conv1/BatchNorm", "bn_conv1", "norm", folds="conv1"),
    *(line for ours, theirs in (("conv1", "2a"), ("conv2", "2b"), ("conv3", "2c"), ("shortcut", "1")) for line in (
        Line(f"{_V1}/{ours}", f"res{{stage}}{{letter}}_branch{theirs}", "unbiased"),
        Line(f"{_V1}/{ours}/BatchNorm", f"bn{{stage}}{{letter}}_branch{theirs}", "norm",
             folds=f"res{{stage}}{{letter}}_branch{theirs}"))),
    Line("logits", "fc1000", "dense"),
)
RESNET_V2 = (
    Line("conv1", "conv1_conv", "convolution"),
    Line(f"{_V2}/preact", f"{_UNIT}_preact_bn", "norm"),
    Line(f"{_V2}/conv1", f"{_UNIT}_1_conv", "unbiased"),
    Line(f"{_V2}/conv1/BatchNorm", f"{_UNIT}_1_bn", "norm"),
    Line(f"{_V2}/conv2", f"{_UNIT}_2_conv", "unbiased"),
    Line(f"{_V2}/conv2/BatchNorm", f"{_UNIT}_2_bn", "norm"),
    Line(f"{_V2}/shortcut", f"{_UNIT}_0_conv", "convolution"),
    Line(f"{_V2}/conv3", f"{_UNIT}_3_conv", "convolution"),
    Line("postnorm", "post_bn", "norm"),
    Line("logits", "predictions", "dense"),
    Line("m_logits", "m_logits", "dense"),
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


def recognise(names: Iterable[str]) -> str | None:
    """The network whose layers a file has; None where it is of another library."""
    found = {name.rpartition("/")[0] for name in names}
    return next((net for layer, net in MARKS.items() if layer in found), None)


def rows(spec: NetSpec, tensors: Mapping[str, TensorInfo]) -> tuple[Row, ...]:
    """The map of `spec`, without what `tensors` lacks; in the order of Keras' layers and their variables."""
    found = []
    table = RESNET_50_OF_2015 if "res2a_branch2a/kernel" in tensors else TABLES.get(spec.family, ())
    for line in layers(table, spec):
        for slim, foreign in VARIABLES[line.kind].items():
            ours, theirs = f"{spec.scope}/{line.slim}/{slim}", f"{line.foreign}/{foreign}"
            if ours not in tensors and theirs not in tensors:
                continue
            grid = dense_grid(ours, theirs, tensors, KERNEL, spec.blocks[-1][0]) if line.slim == "fc6" else 1
            how = layout(line.kind, slim, KERNEL, grid, bgr=spec.family in BGR and line.slim in FIRST)
            found.append(Row(ours, theirs, how, f"{line.folds}/bias" if line.folds and slim == "moving_mean" else ""))
    return tuple(found)


def in_order(names: Iterable[str]) -> list[str]:
    """Layers' names as they follow one another in keras.applications' model; of another model, as they come."""
    given = list(dict.fromkeys(names))
    net = recognise(f"{name}/" for name in given)
    if net not in NETS:
        return given
    model = [line.foreign for line in layers(TABLES[NETS[net].family], NETS[net])]
    return [name for name in model if name in given] + [name for name in given if name not in model]


def note(spec: NetSpec) -> str:
    """Where Keras' network differs from TF-Slim's with the same values."""
    return "" if spec.family == "vgg" else POOL.format(size=spec.preprocessing.size)


DIALECT = Dialect("keras", "auto", recognise, rows, note)
