"""The configuration of the augmentation, and what it resolves to (transforms.py and mixup.py apply it)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from voc_cls.config import Range, check_ranges
from voc_cls.errors import UsageError

Preset = Literal["none", "flip", "mild", "lecture", "randaugment", "crop", "multi-scale-crop"]


@dataclass(frozen=True)
class AugmentationConfig:
    """Random variation of training pictures."""

    augment: Preset = "flip"
    """Preset. flip: mirror half of the pictures. mild: also zoom and shift by up to 10 % and rotate by up to 10
    degrees. lecture: the lecture's: flips both ways, scale 0.6 to 1.4, shift by up to 20 %, any rotation, wrapping
    beyond the edges. randaugment: flip, then RandAugment (Cubuk et al. 2020). crop: flip, and a part of --crop-area
    and of proportions from 3:4 to 4:3 at a random place (Szegedy et al. 2015). multi-scale-crop: flip, and 1, .875,
    .75, .66 or .5 of the width and of the height (Wang et al. 2015). The flags below override it."""
    crop_area: Annotated[float | None, Range(0.01, 1)] = None
    """Smallest part of the picture's area that --augment crop shows; a part that shows no object still has the
    picture's labels. Default: 0.08, as in the published recipes."""
    horizontal_flip: bool | None = None
    """Mirror half of the pictures. Default: see --augment."""
    vertical_flip: bool | None = None
    """Turn half of the pictures upside down. Default: no."""
    zoom: Annotated[float | None, Range(0, 0.9)] = None
    """Zoom in or out by up to this fraction, such as 0.1. Default: see --augment."""
    shift: Annotated[float | None, Range(0, 0.9)] = None
    """Shift by up to this fraction of the width and height. Default: see --augment."""
    rotation: Annotated[float | None, Range(0, 180)] = None
    """Rotate by up to this many degrees in either direction. Default: see --augment."""
    edges: Literal["reflect", "wrap"] | None = None
    """What lies beyond the edges of a moved picture: its mirror image, or its opposite side. Default: wrap for
    --augment lecture, otherwise reflect."""
    mixup: Annotated[float, Range(0, 1e9)] = 0.0
    """Alpha of mixup (Zhang et al. 2018), such as 0.2: blend each picture and its labels with another one of the batch.
    0: off."""
    cutmix: Annotated[float, Range(0, 1)] = 0.0
    """Alpha of CutMix (Yun et al. 2019), at most 1: paste a rectangle of another picture, and mix the labels by area.
    0: off. With --mixup too, each batch uses one of the two at random."""
    views: Annotated[int | None, Range(1)] = None
    """With a frozen backbone: number of variants of each picture that are drawn once and reused, instead of a new one
    every time, so that the backbone's outputs can be cached. Default: all variants with flips alone, else none."""

    def resolved(self) -> Augmentation:
        """What the fields come to; UsageError names the one whose value cannot be used."""
        check_ranges(self)
        overrides: dict[str, Any] = {"horizontal": self.horizontal_flip, "vertical": self.vertical_flip,
                                     "zoom": self.zoom, "shift": self.shift, "rotation": self.rotation,
                                     "edges": self.edges, "crop_area": self.crop_area}
        if self.crop_area is not None and PRESETS[self.augment].crop != "random":
            raise UsageError(f"`crop_area` {self.crop_area:g}: is of `augment` crop, not of {self.augment}; omit one "
                             "of them")
        chosen = replace(PRESETS[self.augment], mixup=self.mixup, cutmix=self.cutmix,
                         **{name: value for name, value in overrides.items() if value is not None})
        return replace(chosen, views=self._views(chosen))

    def _views(self, chosen: Augmentation) -> int | None:
        """The number of views to draw."""
        most = 2 ** len(chosen.flips)
        if self.views is None:
            return most if chosen.only_flips else None
        if chosen.mixes:
            raise UsageError(f"`views` {self.views}: cannot be combined with `mixup` or `cutmix`, which make every "
                             "picture anew from two; omit one of them")
        if chosen.only_flips and self.views > most:
            raise UsageError(f"`views` {self.views}: flips alone make only {most} different views of a picture; "
                             f"choose {most} at most, or more variation with `augment`")
        return self.views


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training image; by default nothing."""

    horizontal: bool = False
    vertical: bool = False
    zoom: float = 0.0
    """Fraction."""
    shift: float = 0.0
    """Fraction of the image's width and height."""
    rotation: float = 0.0
    """Degrees."""
    edges: Literal["reflect", "wrap"] = "reflect"
    """What lies beyond the edges of a moved image."""
    whole_levels: bool = False
    """Whether an image is moved as uint8, in whole grey levels, as imgaug does; otherwise as float32."""
    randaugment: bool = False
    crop: Literal["none", "random", "multi-scale"] = "none"
    """What of the image is shown."""
    crop_area: float = 0.08
    """Smallest part of the image's area that a random crop has; up to all of it."""
    mixup: float = 0.0
    """Alpha of the beta distribution of the weights; 0: never."""
    cutmix: float = 0.0
    """Alpha of the beta distribution of the areas; 0: never."""
    views: int | None = None
    """Number of variants of each image that are drawn beforehand; None: each one is new."""

    @property
    def flips(self) -> tuple[int, ...]:
        """The axes of [H, W, 3] that are reversed at random; bit k of a draw decides about the k-th of them."""
        return (1,) * self.horizontal + (0,) * self.vertical

    @property
    def resamples(self) -> bool:
        """Whether pixels get new values, not only new places."""
        return bool(self.zoom or self.shift or self.rotation or self.randaugment)

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed with each other."""
        return bool(self.mixup or self.cutmix)

    @property
    def only_flips(self) -> bool:
        """Whether the only variants of an image are itself and its mirror images."""
        return not self.resamples and not self.mixes and self.crop == "none"


PRESETS = {
    "none": Augmentation(),
    "flip": Augmentation(horizontal=True),
    # Shift: 0.1 as in Keras' own CIFAR-10 example with ImageDataGenerator; zoom alike; rotation: half of the 20 degrees
    # in ImageDataGenerator's documentation. No vertical flip: photographs have an upright (--vertical-flip adds it).
    "mild": Augmentation(horizontal=True, zoom=0.1, shift=0.1, rotation=10.0),
    # The lecture on Dogs vs. Cats: imgaug's Fliplr(0.5), Flipud(0.5) and one Affine with mode="wrap", on uint8
    "lecture": Augmentation(horizontal=True, vertical=True, zoom=0.4, shift=0.2, rotation=180.0, edges="wrap",
                            whole_levels=True),
    "randaugment": Augmentation(horizontal=True, randaugment=True),
    "crop": Augmentation(horizontal=True, crop="random"),
    "multi-scale-crop": Augmentation(horizontal=True, crop="multi-scale"),
}
