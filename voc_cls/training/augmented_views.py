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


def fixed_views(path: Path, digest: str, augmentation: Augmentation, seed: int) -> list[View]:
    """`augmentation.views` views of the image at `path`, whose file has this digest; `seed` matters beyond flips.

    With flips alone view v is the one of draw v, so that `draw % views` says which view a draw means. Otherwise its
    draw comes from the seed, the image and v, but for the bits that flip: these are v's, so all are equally many.
    """
    views = []
    for number in range(augmentation.views or 0):
        if augmentation.only_flips:
            draw = number
            axes = [axis for bit, axis in enumerate(augmentation.flips) if draw >> bit & 1]
            item = f"{digest} reversed {axes}" if axes else digest  # as it is: the same row as in another split
        else:
            drawn = int.from_bytes(hashlib.sha256(f"{seed} {digest} {number}".encode()).digest()[:7])
            draw = (drawn << FLIP_BITS) + number % (1 << FLIP_BITS)
            item = f"{digest} {draw} {json.dumps(asdict(replace(augmentation, views=None)))}"
        views.append(View(path, augmentation, draw, item))
    return views
