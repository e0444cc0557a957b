"""The views of an image that a frozen backbone sees: as it is, or augmented by a draw that stays the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from voc_cls.data.augmentation import Augmentation
from voc_cls.data.transforms import FLIP_BITS


@dataclass(frozen=True)
class View:
    """One way to see the image at `path`. `item` names by content what is seen, for a cache."""

    path: Path
    augmentation: Augmentation
    draw: int
    item: str


def plain_view(path: Path, digest: str) -> View:
    """The image as it is; `digest` is that of its file."""
    return View(path, Augmentation(), 0, digest)


def fixed_views(path: Path, digest: str, augmentation: Augmentation, seed: int) -> list[View]:
    """`augmentation.views` views of an image; the seed matters where there is more than flips.

    With flips alone view v is the one of draw v, so that `draw % views` says which view a draw means. Otherwise its
    draw comes from the seed, the image and v, but for the bits that flip: these are v's, so all are equally many.
    """
    view = _flipped if augmentation.only_flips else _varied
    return [view(path, digest, augmentation, seed, number) for number in range(augmentation.views or 0)]


def _flipped(path: Path, digest: str, augmentation: Augmentation, _: int, draw: int) -> View:
    axes = [axis for bit, axis in enumerate(augmentation.flips) if draw >> bit & 1]
    item = f"{digest} reversed {axes}" if axes else digest  # as it is: the same row as in another split
    return View(path, augmentation, draw, item)


def _varied(path: Path, digest: str, augmentation: Augmentation, seed: int, number: int) -> View:
    drawn = int.from_bytes(hashlib.sha256(f"{seed} {digest} {number}".encode()).digest()[:7])
    draw = (drawn << FLIP_BITS) + number % (1 << FLIP_BITS)
    return View(path, augmentation, draw, f"{digest} {draw} {json.dumps(asdict(replace(augmentation, views=None)))}")
