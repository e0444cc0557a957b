"""The same picture twice: in one split, where it counts double, or in two, where the test asks what was taught."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voc_cls.data.feature_cache import file_digests
from voc_cls.data.scan import Found

FOLD = re.compile(r".*_(\d+)")
"""The lists of a fold, such as train_2 and val_2 (voc-data split --folds)."""
WHOLE = {"trainval": {"train", "val"}, "all": None}
"""Splits that are made of others; None: of all others."""
SHOWN = 3
"""Pictures that a sentence about many names."""


@dataclass(frozen=True)
class Duplicates:
    """One sentence each; a warning costs nothing but weight, a problem makes results worthless or labels wrong."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    split: str
    path: Path
    labels: tuple[str, ...]


def find_duplicates(found: Sequence[Found], fingerprints: Mapping[Path, int]) -> Duplicates:
    """Pictures that are in two splits, by path or byte for byte, and those that are twice in one.

    fingerprints: of the files; where two agree, the files are compared by SHA-256. Problems: in two splits that are
    meant to be apart, or twice in one split with different labels. Warnings: twice in one split with the same labels.
    """
    problems = list(_shared_paths(found))
    warnings = list(_listed_twice(found))
    places: defaultdict[Path, list[_Place]] = defaultdict(list)
    for part in found:
        for path, labels in zip(part.dataset.paths, _labels(part), strict=True):
            places[path].append(_Place(part.split, path, labels))
    for paths in _equal_files(fingerprints):
        sentence, grave = _told([place for path in paths for place in places[path]])
        (problems if grave else warnings).extend([sentence] if sentence else [])
    return Duplicates(tuple(problems), tuple(warnings))


def apart(one: str, other: str) -> bool:
    """Whether two splits are meant to have no picture in common.

    Not so a whole and its parts (trainval has train and val), and the lists of different folds.
    """
    for whole, part in ((one, other), (other, one)):
        if whole in WHOLE and (WHOLE[whole] is None or part in (WHOLE[whole] or ())):
            return False
    folds = [match.group(1) if match else None for match in map(FOLD.fullmatch, (one, other))]
    if folds[0] and folds[1]:
        return one != other and folds[0] == folds[1]
    cut_up = {"train", "val", "trainval", "all"}  # what folds are cut from
    return one != other and not ((folds[0] and other in cut_up) or (folds[1] and one in cut_up))


def _labels(part: Found) -> list[tuple[str, ...]]:
    names = np.array(part.dataset.classes, dtype=object)
    return [tuple(names[row > 0]) for row in part.dataset.labels]


def _shared_paths(found: Sequence[Found]) -> Iterator[str]:
    for one, other in itertools.combinations(found, 2):
        in_one = set(one.dataset.paths)
        shared = list(dict.fromkeys(path for path in other.dataset.paths if path in in_one))
        if shared and apart(one.split, other.split):
            yield (f"{_some(shared)}: in the splits {one.split} and {other.split}, which share {len(shared):,} "
                   f"picture{'s' * (len(shared) > 1)}; a result on what was trained on means nothing, take them out of "
                   "one")


def _listed_twice(found: Sequence[Found]) -> Iterator[str]:
    for part in found:
        seen: set[Path] = set()
        twice = [path for path in part.dataset.paths if path in seen or seen.add(path)]  # type: ignore[func-returns-value]
        if twice:
            yield f"{_some(list(dict.fromkeys(twice)))}: more than once in the split {part.split}; it counts every time"


def _equal_files(fingerprints: Mapping[Path, int]) -> Iterator[list[Path]]:
    """Groups of two and more files with the same content."""
    alike: defaultdict[int, list[Path]] = defaultdict(list)
    for path, fingerprint in fingerprints.items():
        alike[fingerprint].append(path)
    suspects = [path for paths in alike.values() if len(paths) > 1 for path in paths]
    equal: defaultdict[str, list[Path]] = defaultdict(list)
    for path, digest in zip(suspects, file_digests(suspects), strict=True):
        equal[digest].append(path)
    yield from (paths for paths in equal.values() if len(paths) > 1)


def _told(places: list[_Place]) -> tuple[str | None, bool]:
    """(what to say of files with equal content, whether it is a problem): the gravest of what is true of any two."""
    pairs = [(one, other) for one, other in itertools.combinations(places, 2) if one.path != other.path]
    copies = len({place.path for place in places})
    more = f" (there are {copies} copies)" if copies > 2 else ""

    def differ(one: _Place, other: _Place) -> str:
        return "" if one.labels == other.labels else (f", labelled {', '.join(one.labels) or 'nothing'} and "
                                                      f"{', '.join(other.labels) or 'nothing'}")

    for one, other in pairs:
        if apart(one.split, other.split):
            return (f"{one.path}: in {one.split}, is byte for byte {other.path} in {other.split}{differ(one, other)}"
                    f"{more}; a result on what was trained on means nothing, take one out"), True
    for one, other in pairs:
        if one.split == other.split and differ(one, other):
            return (f"{one.path}: is byte for byte {other.path}, both in {one.split}{differ(one, other)}{more}; one "
                    "label is wrong, correct it or take the pictures out"), True
    for one, other in pairs:
        if one.split == other.split:
            return (f"{one.path}: is byte for byte {other.path}, both in {one.split}{more}; it counts every time, take "
                    "one out"), False
    return None, False


def _some(paths: Sequence[Path]) -> str:
    more = len(paths) - SHOWN
    return ", ".join(map(str, paths[:SHOWN])) + (f" and {more:,} more" if more > 0 else "")
