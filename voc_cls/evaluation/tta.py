"""Test-time augmentation: the mean of the logits of several views of each image.

flip: the image and its mirror image (Simonyan & Zisserman 2014, section 3.2). multi-scale: the whole image at
several sizes. Nothing is cropped: all layers are convolutions, so a larger image gives a larger grid. Most heads take
the mean of this grid (ResNet, Inception, gap); fc6 and fc7 give a grid of logits, whose mean is taken, the "dense
evaluation" of the same section.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from voc_cls.errors import UsageError
from voc_cls.nets.network import Network

if TYPE_CHECKING:
    import keras

Tta = Literal["none", "flip", "multi-scale", "both"]
SCALES = (1, 8 / 7, 9 / 7)
"""Relative to the training size: 224, 256 and 288 for 224 pixels. Smaller images would be too small for fc6."""


def views_of(tta: Tta, size: int) -> tuple[tuple[int, ...], bool]:
    """(sizes in pixels, whether each is also mirrored) of `tta`, for a network whose input has `size` pixels."""
    scales = SCALES if tta in ("multi-scale", "both") else (1,)
    return tuple(round(size * scale) for scale in scales), tta in ("flip", "both")


def at_any_size(network: Network) -> keras.Model:
    """A model that shares the network's layers: float32 [N, height, width, 3] → float32 [N, classes].

    With fc6 and fc7 its logits are the mean over the grid of places that the network's own input fits into, 32 pixels
    apart; at the network's own size there is one place. One model for all sizes: Keras traces a new one for each model.
    UsageError for a head that takes one size only.
    """
    import keras

    if network.head == "flatten":
        raise UsageError("`tta` multi-scale: not with `head` flatten, which takes one size only; choose flip")
    images = keras.Input((None, None, 3), name="images")
    first, *inner, _ = network.model.layers  # the last one flattens
    outputs = {id(first.output): images}
    for layer in inner:
        inputs = keras.tree.map_structure(lambda tensor: outputs[id(tensor)], layer.input)
        outputs[id(layer.output)] = logits = layer(inputs)
    mean = keras.layers.GlobalAveragePooling2D(dtype="float32", name="mean")(logits)
    return keras.Model(images, mean)
