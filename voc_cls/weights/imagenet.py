"""How ImageNet weights are recognised when nobody has published a digest of their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.nets.registry import net_spec
from voc_cls.nets.shapes import slim_shapes
from voc_cls.weights.formats import tf_checkpoint
from voc_cls.weights.restore import read_weights
from voc_cls.weights.tensors import Array

TOLERANCE = 1e-4
"""Of a tensor's L2 norm. Rounding to float32 moves a projection by less than 2e-6; another tensor of the same norm
falls within the tolerance once in 10,000, and there are 26."""

PROJECTIONS = {
    # `projection` of (weights, biases), measured on the 13 convolutions that Simonyan & Zisserman released, as
    # `voc-weights fetch vgg_16_conv` gives them. TF-Slim converted the same Caffe model, says its README.
    "vgg_16": {
        "conv1/conv1_1": (0.676060, 0.337522),
        "conv1/conv1_2": (9.136897, 1.231436),
        "conv2/conv2_1": (2.727952, 0.311196),
        "conv2/conv2_2": (-2.699182, -1.684323),
        "conv3/conv3_1": (0.399981, -0.379253),
        "conv3/conv3_2": (-2.392310, -0.654554),
        "conv3/conv3_3": (-3.858783, 0.004395),
        "conv4/conv4_1": (-3.789921, 0.261459),
        "conv4/conv4_2": (-0.693136, 0.354741),
        "conv4/conv4_3": (-4.201937, -1.283487),
        "conv5/conv5_1": (-0.727618, 3.889238),
        "conv5/conv5_2": (-0.935233, -0.668601),
        "conv5/conv5_3": (-0.999932, 1.794549),
    },
}


def known_by(net: str) -> str:
    """For a person: what `check_imagenet` can tell about the weights of `net`."""
    if net in PROJECTIONS:
        return "names, shapes and finite values; the convolutions by their values"
    return "names, shapes and finite values; TF-Slim publishes no digest to compare with"


def projection(tensor: Array) -> float:
    """Σ tensor[i] cos(i) over the flattened tensor: one number that depends on values and order.

    Swapped colour channels or transposed axes change it; rounding does not.
    """
    flat = tensor.ravel().astype(np.float64)
    return float(np.cos(np.arange(flat.size)) @ flat)


def check_imagenet(checkpoint: Path, net: str) -> None:
    """Raises WeightsError unless `checkpoint` holds the ImageNet weights of `net`.

    Every variable is there in TF-Slim's shape and finite; VGG-16's convolutions have the known values (PROJECTIONS).
    All else has no such reference: what protects it is the archive's own CRC, and TLS.
    """
    opened, spec = tf_checkpoint.read(checkpoint), net_spec(net)
    for name, shape in slim_shapes(spec).items():
        if opened.shapes.get(name) != shape:
            has = f"has {name} as {list(opened.shapes[name])}" if name in opened.shapes else f"lacks {name}"
            raise WeightsError(f"{checkpoint.name} is not the ImageNet checkpoint of {net}: it {has}, expected "
                               f"{list(shape)}")
        weights = read_weights(opened, name)
        layer, _, kind = name.removeprefix(f"{spec.scope}/").rpartition("/")
        known = PROJECTIONS.get(net, {}).get(layer)
        if known is None:
            continue
        expected, found = known[kind == "biases"], projection(weights)
        if abs(found - expected) > TOLERANCE * max(float(np.linalg.norm(weights)), abs(expected)):
            raise WeightsError(f"{checkpoint.name} is not the ImageNet checkpoint of {net}: {name} has other values "
                               f"(projection {found:.6f}, expected {expected:.6f})")
