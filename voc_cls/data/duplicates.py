"""Duplicate images: in one split, where they count twice, or in two, where the test set contains training images.

Near-duplicates look alike, though their files differ: re-encoded, scaled, or frames of one video. Every image has a
perceptual hash of 64 bits (imagehash.phash: the signs of the lowest frequencies of its brightness). Variants of one
image differ in few bits, different images in about 32.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voc_cls.data.readers.split_scan import SplitScan
from voc_cls.data.stratify import ROBOFLOW

FOLD = re.compile(r".*_(\d+)")
"""The lists of a fold, such as train_2 and val_2 (voc-data split --folds)."""
WHOLE = {"trainval": {"train", "val"}, "all": None}
"""Splits that are made of others; None: of all others."""
SHOWN = 3
"""Images that a sentence about many names."""
THRESHOLD = 8
"""Bits in which near-duplicates differ at most; docs/decisions.md has the measurement."""
FLAT = 2.0
"""Grey levels of standard deviation below which an image has no shape to compare: its hash would be noise."""
SHOWN_PAIRS = 20
"""Pairs that look alike that are named, the closest ones; the others are counted."""
HASHED_SIZE = 128
"""Pixels of the longer side to which images are reduced first, which is faster and changes no more than a bit."""

Bits = npt.NDArray[np.bool_]


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
        for path, labels in zip(split.dataset.paths, split.dataset.labels, strict=True):
            if path in digests:
                copies[digests[path]].append(_Place(split.split, path, tuple(split.dataset.named(labels))))
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
    same = [(differ(first, second), first, second) for first, second in pairs if first.split == second.split]
    for differing, first, second in sorted(same, key=lambda pair: not pair[0])[:1]:
        advice = "one label is wrong, correct it or remove the pictures" if differing else (
            "it counts every time, remove one")
        return (f"{first.path}: is byte for byte {second.path}, both in {first.split}{differing}{more}; {advice}",
                bool(differing))
    return None, False


def _some(paths: Sequence[Path]) -> str:
    more = len(paths) - SHOWN
    return ", ".join(map(str, paths[:SHOWN])) + (f" and {more:,} more" if more > 0 else "")


def perceptual_hash(pixels: npt.NDArray[np.uint8]) -> Bits | None:
    """bool [64] of an image, uint8 [H, W, 3] RGB; None where it is of one colour."""
    from imagehash import phash
    from PIL import Image

    image = Image.fromarray(pixels)
    small = image.reduce(max(1, max(image.size) // HASHED_SIZE)).convert("L")
    if np.asarray(small).std() < FLAT:
        return None
    bits: Bits = phash(small).hash.ravel()
    return bits


def find_near_duplicates(splits: Sequence[SplitScan], digests: Mapping[Path, str], hashes: Mapping[Path, Bits]
                         ) -> list[str]:
    """A sentence for each pair of images in two splits meant to be apart that look alike, at most SHOWN_PAIRS, and one
    more for the number of the others. Files with equal `digests` are left to `find_duplicates`."""
    from scipy.sparse import triu
    from sklearn.neighbors import radius_neighbors_graph

    sentences = _variants(splits)
    paths = list(hashes)
    number, members = {path: row for row, path in enumerate(paths)}, np.zeros((len(paths), len(splits)), np.float32)
    for column, split in enumerate(splits):
        members[[number[path] for path in split.dataset.paths if path in number], column] = 1
    between = np.array([[apart(first.split, second.split) for second in splits] for first in splits], np.float32)
    if not paths:
        return sentences
    contents = np.unique([digests[path] for path in paths], return_inverse=True)[1]
    bits = np.array([hashes[path] for path in paths], np.float32)  # whose squared distance is the number of bits
    graph = triu(radius_neighbors_graph(bits, (THRESHOLD + 0.5) ** 0.5, mode="distance"), format="coo")  # a pair once
    allowed = ((members[graph.row] @ between * members[graph.col]).sum(axis=1) > 0) & (
        contents[graph.row] != contents[graph.col])
    apart_by, pairs = np.rint(graph.data[allowed] ** 2).astype(int), np.stack([graph.row, graph.col], axis=1)[allowed]
    order = np.lexsort((*pairs.T[::-1], apart_by))
    for row in order[:SHOWN_PAIRS]:
        distance, (one, other) = apart_by[row], pairs[row]
        places = [[split.split for column, split in enumerate(splits) if members[row, column]] for row in (one, other)]
        first, second = next((first, second) for first in places[0] for second in places[1] if apart(first, second))
        sentences.append(f"{paths[one]}: in {first}, looks like {paths[other]} in {second} ({distance} of the 64 bits "
                         "of their perceptual hashes differ); if one is made from the other, keep both in one split")
    if len(order) > SHOWN_PAIRS:
        sentences.append(f"{len(order) - SHOWN_PAIRS:,} more pairs of pictures in different splits look alike")
    return sentences


def _variants(splits: Sequence[SplitScan]) -> list[str]:
    """Variants of one image, according to Roboflow's names, in two splits."""
    sentences = []
    sources = [{match[1]: path for path in split.dataset.paths if (match := ROBOFLOW.match(path.name))}
               for split in splits]
    for (first, names), (second, others) in itertools.combinations(zip(splits, sources, strict=True), 2):
        shared = sorted(names.keys() & others.keys())
        if shared and apart(first.split, second.split):
            sentences.append(
                f"{names[shared[0]]}: in {first.split}, is by its name (.rf.) a variant of the same picture as "
                f"{others[shared[0]]} in {second.split}; {len(shared):,} pictures are in both splits so, and results "
                "on them mean little: `voc-data split` keeps variants together")
    return sentences
