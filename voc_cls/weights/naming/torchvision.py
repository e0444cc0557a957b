"""torchvision's names: vgg16, vgg19, resnet50, resnet101, resnet152; and timm's, which keep them but for VGG's
dense layers: `pre_logits.fc1` and `.fc2`, convolutions of 7 × 7 and 1 × 1, and `head.fc`.

Kernels are output, input, height, width; dense layers output × input, and the inputs of VGG's first are in the order
channel, height, width. `num_batches_tracked` counts steps and has no counterpart. AlexNet and the Inceptions of
torchvision are other networks than TF-Slim's.

With the same random weights and picture, the largest difference of the logits, relative to the largest logit: vgg16
4e-7; resnet50 (v1.5) 0.005 at 65 pixels and 0.016 at 224; with its stride where the paper has it, 1e-6 and 0.007.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from voc_cls.errors import WeightsError
from voc_cls.nets.registry import NetSpec
from voc_cls.weights.naming import NORM, OIHW, LayerName, NamingScheme, TensorMapping, map_tensors, vgg_layers
from voc_cls.weights.tensors import TensorInfo

VARIABLES = {"weights": ".weight", "biases": ".bias",
             **dict(zip(NORM, (".weight", ".bias", ".running_mean", ".running_var"), strict=True))}

VGG = vgg_layers("features.{feature}", "classifier.0", "classifier.3", "classifier.6")
TIMM_FC6 = "pre_logits.fc1"
VGG_OF_TIMM = (VGG[0], LayerName("fc6", TIMM_FC6, "convolution"), LayerName("fc7", "pre_logits.fc2", "convolution"),
               LayerName("fc8", "head.fc", "dense"))
_SLIM, _TORCH = "block{block}/unit_{unit}/bottleneck_v1", "layer{block}.{index}"
RESNET_V1 = (
    LayerName("conv1", "conv1", "unbiased"),
    LayerName("conv1/BatchNorm", "bn1", "norm"),
    *(row for number in (1, 2, 3) for row in (
        LayerName(f"{_SLIM}/conv{number}", f"{_TORCH}.conv{number}", "unbiased"),
        LayerName(f"{_SLIM}/conv{number}/BatchNorm", f"{_TORCH}.bn{number}", "norm"))),
    LayerName(f"{_SLIM}/shortcut", f"{_TORCH}.downsample.0", "unbiased"),
    LayerName(f"{_SLIM}/shortcut/BatchNorm", f"{_TORCH}.downsample.1", "norm"),
    LayerName("logits", "fc", "dense"),
    LayerName("m_logits", "m_logits", "dense"),
)
TABLES = {"vgg": VGG, "resnet_v1": RESNET_V1}

MARKS = {"features.34.weight": "vgg_19", "features.28.weight": "vgg_16", "layer3.35.conv3.weight": "resnet_v1_152",
         "layer3.22.conv3.weight": "resnet_v1_101", "layer3.5.conv3.weight": "resnet_v1_50"}
"""A tensor that the network has and the ones after it here have not."""
VGG_NORM = "features.1.running_mean"
STRIDE = ("PyTorch's ResNets (v1.5) halve the grid in the 3 × 3 convolution of a block's first unit, TF-Slim's in the "
          "last unit of the block before: the weights are the same, the outputs differ, so fine-tune all layers")


def recognise(names: Iterable[str]) -> str | None:
    """The network whose tensors a file has; None where it is of another library; WeightsError for VGG with batch
    normalisation."""
    tensors = set(names)
    if VGG_NORM in tensors and "features.0.weight" in tensors:
        raise WeightsError("the file is of a VGG with batch normalisation (torchvision's vgg16_bn, vgg19_bn), which "
                           "TF-Slim does not have: take the weights of vgg16 or vgg19")
    return next((net for name, net in MARKS.items() if name in tensors), None)


def mappings(spec: NetSpec, tensors: Mapping[str, TensorInfo]) -> tuple[TensorMapping, ...]:
    """The tensors of `spec`, without what `tensors` lacks."""
    of_timm = f"{TIMM_FC6}.weight" in tensors
    table = VGG_OF_TIMM if of_timm and spec.family == "vgg" else TABLES.get(spec.family, ())
    return map_tensors(spec, table, tensors, VARIABLES, OIHW)


SCHEME = NamingScheme("torchvision", "torch", recognise, mappings, {"resnet_v1": STRIDE}, tuple(MARKS))
