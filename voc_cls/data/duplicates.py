"""Duplicate images: in one split, where they count twice, or in two, where the test set contains training images."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voc_cls.data.readers.split_scan import SplitScan

FOLD = re.compile(r".*_(\d+)")
"""The lists of a fold, such as train_2 and val_2 (voc-data split --folds)."""
WHOLE = {"trainval": {"train", "val"}, "all": None}
"""Splits that are made of others; None: of all others."""
SHOWN = 3
"""Images that a sentence about many names."""


@dataclass(frozen=True)
class _Place:
    split: str
    path: Path
    labels: tuple[str, ...]


def find_duplicates(splits: Sequence[SplitScan], digests: Mapping[Path, str]) -> tuple[list[str], list[str]]:
    """(problems, warnings), a sentence each: images that are in two splits, by path or byte for byte, or twice in one.

    digests: of the files' content. Problems: in two splits that are meant to be apart, or twice in one split with
    different labels. Warnings: twice in one split with the same labels, which only changes weights.
    """
    problems = list(_shared_paths(splits))
    warnings = list(_listed_twice(splits))
    copies: dict[str, list[_Place]] = {digest: [] for digest in digests.values()}
    for split in splits:
        names = np.array(split.dataset.classes, dtype=object)
        for path, labels in zip(split.dataset.paths, split.dataset.labels, strict=True):
            if path in digests:
                copies[digests[path]].append(_Place(split.split, path, tuple(names[labels > 0])))
    for places in copies.values():
        sentence, is_problem = _described(places)
        (problems if is_problem else warnings).extend([sentence] if sentence else [])
    return problems, warnings


def apart(first: str, second: str) -> bool:
    """Whether two splits are meant to have no image in common.

    A whole and its parts have (trainval contains train and val), and so have the lists of different folds.
    """
    for whole, part in ((first, second), (second, first)):
        if whole in WHOLE and (WHOLE[whole] is None or part in (WHOLE[whole] or ())):
            return False
    folds = [match.group(1) if match else None for match in map(FOLD.fullmatch, (first, second))]
    if folds[0] and folds[1]:
        return first != second and folds[0] == folds[1]
    sources = {"train", "val", "trainval", "all"}  # what folds are drawn from
    return first != second and not ((folds[0] and second in sources) or (folds[1] and first in sources))


def _shared_paths(splits: Sequence[SplitScan]) -> Iterator[str]:
    for first, second in itertools.combinations(splits, 2):
        known = set(first.dataset.paths)
        shared = list(dict.fromkeys(path for path in second.dataset.paths if path in known))
        if shared and apart(first.split, second.split):
            yield (f"{_some(shared)}: in the splits {first.split} and {second.split}, which share {len(shared):,} "
                   f"picture{'s' * (len(shared) > 1)}; results on training pictures mean nothing, remove them from one")


def _listed_twice(splits: Sequence[SplitScan]) -> Iterator[str]:
    for split in splits:
        counts = Counter(split.dataset.paths)
        twice = [path for path, count in counts.items() if count > 1]
        if twice:
            yield f"{_some(twice)}: more than once in the split {split.split}; it counts every time"


def _described(places: list[_Place]) -> tuple[str | None, bool]:
    """(a sentence about files with equal content, whether it is a problem): the worst case of any two of them."""
    pairs = [(first, second) for first, second in itertools.combinations(places, 2) if first.path != second.path]
    copies = len({place.path for place in places})
    more = f" (there are {copies} copies)" if copies > 2 else ""

    def differ(first: _Place, second: _Place) -> str:
        return "" if first.labels == second.labels else (f", labelled {', '.join(first.labels) or 'nothing'} and "
                                                         f"{', '.join(second.labels) or 'nothing'}")

    for first, second in pairs:
        if apart(first.split, second.split):
            return (f"{first.path}: in {first.split}, is byte for byte {second.path} in {second.split}"
                    f"{differ(first, second)}{more}; results on training pictures mean nothing, remove one"), True
    for first, second in pairs:
        if first.split == second.split and differ(first, second):
            return (f"{first.path}: is byte for byte {second.path}, both in {first.split}{differ(first, second)}{more}"
                    "; one label is wrong, correct it or remove the pictures"), True
    for first, second in pairs:
        if first.split == second.split:
            return (f"{first.path}: is byte for byte {second.path}, both in {first.split}{more}; it counts every time, "
                    "remove one"), False
    return None, False


def _some(paths: Sequence[Path]) -> str:
    more = len(paths) - SHOWN
    return ", ".join(map(str, paths[:SHOWN])) + (f" and {more:,} more" if more > 0 else "")
