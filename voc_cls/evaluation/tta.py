"""Test-time augmentation: the views of an image whose logits are averaged, in voc-eval and in an exported model."""

from __future__ import annotations

from typing import Literal

from voc_cls.model_metadata import Views

Tta = Literal["none", "flip", "multi-scale", "both"]
"""flip: the image and its mirror image (Simonyan & Zisserman 2014, section 3.2). multi-scale: the whole image at
several sizes; nothing is cropped."""
SCALES = (1, 8 / 7, 9 / 7)
"""Relative to the training size: 224, 256 and 288 for 224 pixels. Smaller images would be too small for fc6."""


def views_of(tta: Tta, size: int) -> Views:
    """The views of a network whose input has `size`, pixels."""
    scales = SCALES if tta in ("multi-scale", "both") else SCALES[:1]
    return Views(tuple(round(size * scale) for scale in scales), tta in ("flip", "both"), tta)
