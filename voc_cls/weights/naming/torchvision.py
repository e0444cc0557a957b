"""torchvision's names: vgg16, vgg19, resnet50, resnet101, resnet152; and timm's, which keep them but for VGG's
dense layers: `pre_logits.fc1` and `.fc2`, convolutions of 7 × 7 and 1 × 1, and `head.fc`. TRANSFORMERS is another
scheme, that of Hugging Face's ResNetForImageClassification and ResNetModel (without `resnet.` before names), which are
read and not written; its ResNets halve the grid where torchvision's do (v1.5).

Kernels are output, input, height, width; dense layers output × input, and the inputs of VGG's first are in the order
channel, height, width. `num_batches_tracked` counts steps and has no counterpart. AlexNet and the Inceptions of
torchvision are other networks than TF-Slim's.

With the same random weights and picture, the largest difference of the logits, relative to the largest logit: vgg16
4e-7; resnet50 (v1.5) 0.005 at 65 pixels and 0.016 at 224; with its stride where the paper has it, 1e-6 and 0.007.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from voc_cls.errors import WeightsError
from voc_cls.nets.registry import NetSpec
from voc_cls.weights import naming
from voc_cls.weights.naming import LayerName, NamingScheme, TensorMapping, normalised
from voc_cls.weights.tensors import TensorInfo

VARIABLES = {"weights": ".weight", "biases": ".bias",
             **dict(zip(naming.NORM, (".weight", ".bias", ".running_mean", ".running_var"), strict=True))}

VGG = naming.vgg_layers("features.{feature}", "classifier.0", "classifier.3", "classifier.6")
TIMM_FC6 = "pre_logits.fc1"
VGG_OF_TIMM = (VGG[0], LayerName("fc6", TIMM_FC6, "convolution"), LayerName("fc7", "pre_logits.fc2", "convolution"),
               LayerName("fc8", "head.fc", "dense"))
_SLIM, _TORCH = "block{block}/unit_{unit}/bottleneck_v1", "layer{block}.{index}"
RESNET_V1 = (
    *normalised("conv1", "conv1", "bn1"),
    *(row for number in (1, 2, 3)
      for row in normalised(f"{_SLIM}/conv{number}", f"{_TORCH}.conv{number}", f"{_TORCH}.bn{number}")),
    *normalised(f"{_SLIM}/shortcut", f"{_TORCH}.downsample.0", f"{_TORCH}.downsample.1"),
    LayerName("logits", "fc", "dense"),
    LayerName("m_logits", "m_logits", "dense"),
)
TABLES = {"vgg": VGG, "resnet_v1": RESNET_V1}

MARKS = {"features.34.weight": "vgg_19", "features.28.weight": "vgg_16", "layer3.35.conv3.weight": "resnet_v1_152",
         "layer3.22.conv3.weight": "resnet_v1_101", "layer3.5.conv3.weight": "resnet_v1_50"}
"""A tensor that the network has and the ones after it here have not."""
WITH_HEAD = "resnet."
"""Before the names of transformers' backbone in a model that has a head."""
_LAYER = "encoder.stages.{stage_index}.layers.{index}"
BACKBONE_OF_TRANSFORMERS = tuple(row for slim, foreign in (
    ("conv1", "embedder.embedder"),
    *((f"{_SLIM}/conv{number}", f"{_LAYER}.layer.{number - 1}") for number in (1, 2, 3)),
    (f"{_SLIM}/shortcut", f"{_LAYER}.shortcut"))
    for row in normalised(slim, f"{foreign}.convolution", f"{foreign}.normalization"))
MARKS_OF_TRANSFORMERS = {
    f"{start}encoder.stages.2.layers.{last}.layer.2.convolution.weight": net for start in ("", WITH_HEAD)
    for last, net in ((35, "resnet_v1_152"), (22, "resnet_v1_101"), (5, "resnet_v1_50"))}
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
    return naming.marked(MARKS, tensors)


def mappings(spec: NetSpec, tensors: Mapping[str, TensorInfo]) -> tuple[TensorMapping, ...]:
    """The tensors of `spec`, without what `tensors` lacks."""
    of_timm = f"{TIMM_FC6}.weight" in tensors
    table = VGG_OF_TIMM if of_timm and spec.family == "vgg" else TABLES.get(spec.family, ())
    return naming.map_tensors(spec, table, tensors, VARIABLES, naming.OIHW)


def mappings_of_transformers(spec: NetSpec, tensors: Mapping[str, TensorInfo]) -> tuple[TensorMapping, ...]:
    """As `mappings`; nothing for another network than a ResNet v1."""
    start = WITH_HEAD if any(name.startswith(WITH_HEAD) for name in tensors) else ""
    table = (*(replace(row, foreign=f"{start}{row.foreign}") for row in BACKBONE_OF_TRANSFORMERS),
             LayerName("logits", "classifier.1", "dense"))
    return naming.map_tensors(spec, table if spec.family == "resnet_v1" else (), tensors, VARIABLES, naming.OIHW)


SCHEME = NamingScheme("torchvision", "torch", recognise, mappings, {"resnet_v1": STRIDE}, tuple(MARKS))
TRANSFORMERS = NamingScheme("transformers", "torch", partial(naming.marked, MARKS_OF_TRANSFORMERS),
                            mappings_of_transformers, {"resnet_v1": STRIDE}, tuple(MARKS_OF_TRANSFORMERS))
