"""Everything that is wrong with a data set, image by image: what `voc-data check` prints.

Problems make a training fail or its results wrong; the exit code is then 1. Warnings are worth knowing: an image twice
with the same labels, images in two splits that look alike, a class without images in a split. Images are decoded
completely, as training does, on all cores, and each file is read once.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from threading import Lock
from typing import Any
from unicodedata import normalize

from voc_cls.data.dataset import Dataset
from voc_cls.data.duplicates import Bits, apart, find_duplicates, find_near_duplicates, perceptual_hash
from voc_cls.data.files import ADVICE
from voc_cls.data.load import NO_CLASSES, DatasetScan
from voc_cls.data.preprocessing import decode
from voc_cls.data.readers.split_scan import shown_classes
from voc_cls.errors import DataError
from voc_cls.image_decoder import Preprocessing, decodable
from voc_cls.image_header import ImageError, image_header

LARGE = 1 << 24
"""Pixels. Larger images are decoded one after the other, so memory is bounded by cores × 50 MB and one of these."""
DECODING = Preprocessing(size=1, mean=(0.0, 0.0, 0.0))
"""Decoding uses neither size nor mean."""
NEARLY_ALWAYS = 0.99
"""Share of the images from which on a class says little about an image."""


@dataclass(frozen=True)
class Check:
    """What was checked, and one sentence for each problem, with file and, in lists and annotations, line."""

    kind: str
    name: str
    splits: tuple[str, ...]
    images: int
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `devkit` is the name of any data set."""
        return {"data": self.kind, "devkit": self.name, "splits": list(self.splits), "pictures": self.images,
                "problems": list(self.problems), "warnings": list(self.warnings)}


def check_dataset(scan: DatasetScan, start: Callable[[int], None] = lambda _: None,
                  done: Callable[[], None] = lambda: None) -> Check:
    """Decodes every image with TensorFlow and compares files, splits and classes.

    `start` is called with the number of images to decode, `done` after each of them.
    """
    problems, reader = list(scan.problems), scan.reader
    if not scan.requested:
        problems.append(f"{reader.where}: {NO_CLASSES}")
    if scan.whole:
        problems += reader.unpaired()
    paths = tuple(dict.fromkeys(path for split in scan.splits for path in split.dataset.paths))
    start(len(paths))
    digests: dict[Path, str] = {}
    hashes: dict[Path, Bits] = {}
    hashing = any(apart(first.split, second.split) for first in scan.splits for second in scan.splits)
    for path, outcome in zip(paths, decode_all(paths, hashing), strict=True):
        if isinstance(outcome, DataError):
            problems.append(str(outcome))
        else:
            digests[path], bits = outcome
            if bits is not None:
                hashes[path] = bits
        done()
    leaks, copies = find_duplicates(scan.splits, digests)
    alike = find_near_duplicates(scan.splits, digests, hashes)
    missing, rare = _odd_classes(scan)
    notes = [warning for split in scan.splits for warning in split.warnings]
    if scan.whole:
        rare += [f"{reader.where}: the classes of {split} are unknown; it was not checked"
                 for split in reader.splits if split not in scan.requested]
    return Check(reader.kind, "+".join(root.resolve().name for root in reader.roots), scan.requested, len(paths),
                 tuple(dict.fromkeys([*problems, *leaks, *missing])),
                 tuple(dict.fromkeys([*notes, *copies, *alike, *rare])))


def _odd_classes(scan: DatasetScan) -> tuple[list[str], list[str]]:
    """(problems, warnings): a class alone, those that no image shows or a split lacks, and `class_warnings`.

    VOC's classes are fixed, and a devkit may have been shortened; elsewhere the data set has its own list of classes.
    """
    problems, warnings, where = [], [], scan.reader.where
    counts = {split.split: split.dataset.positives for split in scan.splits}
    classes = tuple(dict.fromkeys(name for positives in counts.values() for name in positives))
    if len(classes) == 1 and scan.splits[0].dataset.single_label:
        problems.append(f"{where}: has the class {classes[0]!r} alone, so there is nothing to distinguish; add "
                        "pictures of another class")
    else:
        warnings += [f"{where}: {warning}" for warning in class_warnings(split.dataset for split in scan.splits)]
    for name in classes:
        lacking = [split for split, positives in counts.items() if not positives.get(name, 1)]
        if len(lacking) == sum(name in positives for positives in counts.values()):
            sentence = f"{where}: no picture shows the class {name!r}"
            if scan.reader.kind == "voc" or not scan.whole:
                warnings.append(f"{sentence} in {', '.join(lacking)}; it cannot be learned or measured there")
            else:
                problems.append(f"{sentence}; add one, or remove the class from the list of classes")
        elif lacking:
            warnings.append(f"{where}: the class {name!r} has no picture in {', '.join(lacking)}; it cannot be "
                            f"learned or measured there")
    return problems, warnings


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
        forms.setdefault(re.sub(r"[\s_-]+", "", normalize("NFKC", name).casefold()), []).append(name)
    return [*(f"the classes {' and '.join(map(repr, names))} differ in case, blanks or hyphens alone; are they one?"
              for names in forms.values() if len(names) > 1),
            *(f"{count:,} of {known[name]:,} pictures show {name!r}, so there is little to learn about it"
              for name, count in shown.items() if count and count >= NEARLY_ALWAYS * known[name])]


def never_shown(split: Dataset) -> list[str]:
    """A sentence about the classes without a positive image."""
    names = [name for name, count in split.positives.items() if not count]
    return [f"no picture shows {shown_classes(names)}; it cannot be learned or measured"] if names else []


def decode_all(paths: Iterable[Path], hashing: bool = False) -> Iterator[tuple[str, Bits | None] | DataError]:
    """Decodes each of `paths`; yields in their order (SHA-256 of the file, if `hashing` the perceptual hash of an image
    that has one), or what is wrong."""
    import tensorflow as tf

    one_at_a_time = Lock()

    def outcome(path: Path) -> tuple[str, Bits | None] | DataError:
        try:
            content = path.read_bytes()
            header = image_header(content)
            with one_at_a_time if header.width * header.height > LARGE else nullcontext(), tf.device("CPU"):
                image = decode(tf.constant(decodable(content)), DECODING)
                return hashlib.sha256(content).hexdigest(), perceptual_hash(image.numpy()) if hashing else None
        except OSError as error:
            reason = str(error.strerror)
        except ImageError as error:
            return DataError(f"{path}: is {error}; {ADVICE}")
        except tf.errors.OpError as error:
            reason = re.sub(r"\{\{.*?\}\} *| *\[Op:[^]]*\].*", "", error.message.splitlines()[0])
        return DataError(f"{path}: cannot be decoded ({reason}); replace it")

    with ThreadPool() as pool:  # left early, it stops at once
        yield from pool.imap(outcome, paths)
