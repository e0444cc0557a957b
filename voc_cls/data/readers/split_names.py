"""What splits are called: train, Training, training_set, seg_train, valid, val2017, test1 and the like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Role = Literal["train", "val", "test"]
FILLER = r"(?:set|data|dataset|images?|imgs?|pictures|photos|folder|dir|split|seg|single|jpg|png|\d)"
"""What may stand before and after the word that says what a split is for."""
SPLIT = re.compile(rf"(?:{FILLER}[-_ ]?)*(?:(?P<train>train(?:ing|val)?)|(?P<val>val(?:id|idation)?|dev|eval)|"
                   rf"(?P<test>test(?:ing)?|pred(?:iction)?))(?:[-_ ]?{FILLER})*", re.IGNORECASE)


def is_split_name(name: str) -> bool:
    """Whether a folder or list of this name is a split."""
    return SPLIT.fullmatch(name) is not None


def split_for(role: Role, splits: Sequence[str]) -> str | None:
    """The split that is called `role`, else the only one with such a name; None where there is none, or several."""
    alike = [name for name in splits if (match := SPLIT.fullmatch(name)) and match[role]]
    return role if role in alike else alike[0] if len(alike) == 1 else None
