"""The networks by name. A network is a row of a table plus a builder; a new one is registered here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from voc_cls.data.preprocessing import Preprocessing
from voc_cls.errors import UsageError

STRIDE = 32
"""Pixels of the input to one place of the last grid."""
LARGEST_IMAGE = 2048
IMAGENET_MEAN_RGB = (123.68, 116.78, 103.94)  # TF-Slim, preprocessing/vgg_preprocessing.py


@dataclass(frozen=True)
class NetSpec:
    """One network as TF-Slim knows it: `blocks` is (filters, convolutions) per block, conv1 first."""

    name: str
    blocks: tuple[tuple[int, int], ...]
    preprocessing: Preprocessing
    slim_head: str
    """TF-Slim's name of the classifier that ours replaces; never restored."""
    head: str
    """Name of the new classifier, as in the lecture."""

    @property
    def trunk_scopes(self) -> tuple[str, ...]:
        """The convolution blocks, `conv1` first: what both heads stand on."""
        return tuple(f"conv{number}" for number in range(1, len(self.blocks) + 1))


HEADS = ("fc", "gap", "gap+max")

NETS = {
    # Simonyan & Zisserman 2014, configuration D; names and shapes: tf_slim.nets.vgg.vgg_16
    "vgg_16": NetSpec(
        name="vgg_16",
        blocks=((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
        preprocessing=Preprocessing(size=224, mean=IMAGENET_MEAN_RGB),
        slim_head="fc8",
        head="m_fc8",
    ),
}


def net_spec(name: str, image_size: int | None = None) -> NetSpec:
    """The network called `name`, for pictures of `image_size` pixels instead of its own; UsageError lists the known."""
    if name not in NETS:
        raise UsageError(f"--net {name}: no such network; known are {', '.join(NETS)}")
    spec = NETS[name]
    if image_size is None:
        return spec
    if not STRIDE <= image_size <= LARGEST_IMAGE:
        raise UsageError(f"--image-size {image_size}: must be from {STRIDE} to {LARGEST_IMAGE}")
    return replace(spec, preprocessing=replace(spec.preprocessing, size=image_size))
