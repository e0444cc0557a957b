"""What is odd about the classes of a data set of any kind: names that may be one, and classes nearly always shown."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from voc_cls.data.dataset import Dataset
from voc_cls.data.readers.split_scan import shown_classes

NEARLY_ALWAYS = 0.99
"""Share of the images from which on a class says little about an image."""


def class_warnings(splits: Iterable[Dataset]) -> list[str]:
    """Sentences, without what they are about: names that differ in their form only, a class alone or nearly always."""
    shown: Counter[str] = Counter()
    known: Counter[str] = Counter()
    for split in splits:
        shown.update(split.positives)
        known.update(dict(zip(split.classes, (~split.ignored).sum(axis=0).tolist(), strict=True)))
    if len(shown) == 1:
        return [f"has the class {next(iter(shown))!r} alone"]
    forms: dict[str, list[str]] = {}
    for name in shown:
        forms.setdefault(re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold()), []).append(name)
    return [*(f"the classes {' and '.join(map(repr, names))} differ in case, blanks or hyphens alone; are they one?"
              for names in forms.values() if len(names) > 1),
            *(f"{count:,} of {known[name]:,} pictures show {name!r}, so there is little to learn about it"
              for name, count in shown.items() if count and count >= NEARLY_ALWAYS * known[name])]


def never_shown(split: Dataset) -> list[str]:
    """A sentence about the classes without a positive image."""
    names = [name for name, count in split.positives.items() if not count]
    return [f"no picture shows {shown_classes(names)}; it cannot be learned or measured"] if names else []
