"""Everything that is wrong with a data set, image by image: what `voc-data check` prints.

Problems make a training fail or its results wrong; the exit code is then 1. Warnings are worth knowing: an image twice
with the same labels, a class without images in a split. Images are decoded completely, as training does, on all cores,
and each file is read once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voc_cls.data.duplicates import find_duplicates
from voc_cls.data.load import splits_of
from voc_cls.data.preprocessing import Preprocessing, decode
from voc_cls.data.readers.voc import Devkit, open_devkit
from voc_cls.data.scan import DatasetScan
from voc_cls.image_header import ImageHeader

LARGE = 1 << 24
"""Pixels. Larger images are decoded one after the other, so memory is bounded by cores × 50 MB and one of these."""
BATCH_SIZE = 16
"""Images that leave tf.data together; one by one, all cores would wait for Python."""
FINGERPRINTS = 2**63 - 1
DECODING = Preprocessing(size=1, mean=(0.0, 0.0, 0.0))
"""Decoding uses neither size nor mean."""


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

    Args:
        scan: the data set.
        start: is called with the number of images to decode.
        done: is called after each of them.
    """
    problems = list(scan.problems)
    if not scan.requested:
        problems.append(f"{scan.root}: has no split")
    if scan.kind == "voc" and scan.whole:
        problems += _unpaired(open_devkit(scan.root))
    headers: dict[Path, ImageHeader] = {}
    for split in scan.splits:
        headers.update(zip(split.dataset.paths, split.headers, strict=True))
    start(len(headers))
    paths, fingerprints, broken = tuple(headers), dict[Path, int](), dict[int, str]()
    for decoded in decode_all(paths, [header.width * header.height for header in headers.values()]):
        if decoded.fingerprint is None:
            broken[decoded.number] = decoded.problem or ""
        else:
            fingerprints[paths[decoded.number]] = decoded.fingerprint
        done()
    problems += [broken[number] for number in sorted(broken)]
    duplicates = find_duplicates(scan.splits, {path: fingerprints[path] for path in paths if path in fingerprints})
    missing, rare = _empty_classes(scan)
    if scan.whole:
        rare += [f"{scan.root}: the classes of {split} are unknown; it was not checked"
                 for split in splits_of(scan.kind, scan.root) if split not in scan.requested]
    return Check(scan.kind, scan.name, scan.requested, len(headers),
                 tuple(dict.fromkeys([*problems, *duplicates.problems, *missing])),
                 tuple(dict.fromkeys([*duplicates.warnings, *rare])))


def _empty_classes(scan: DatasetScan) -> tuple[list[str], list[str]]:
    """(problems, warnings): classes that no image shows, and those that a split lacks.

    VOC's classes are fixed, and a devkit may have been shortened; elsewhere the data set has its own list of classes.
    """
    problems, warnings = [], []
    counts = {split.split: split.dataset.positives for split in scan.splits}
    for name in scan.splits[0].dataset.classes if scan.splits else ():
        lacking = [split for split, positives in counts.items() if positives[name] == 0]
        if len(lacking) == len(counts):
            sentence = f"{scan.root}: no picture shows the class {name!r}"
            if scan.kind == "voc" or not scan.whole:
                warnings.append(f"{sentence} in {', '.join(lacking)}; it cannot be learned or measured there")
            else:
                problems.append(f"{sentence}; add one, or remove the class from the list of classes")
        elif lacking:
            warnings.append(f"{scan.root}: the class {name!r} has no picture in {', '.join(lacking)}; it cannot be "
                            f"learned or measured there")
    return problems, warnings


def _unpaired(devkit: Devkit) -> list[str]:
    """Annotations without an image and images without an annotation, in any list or none."""
    annotations = _stems(devkit.annotation("any").parent, ".xml")
    images = _stems(devkit.image("any").parent, ".jpg")
    return [*(f"{devkit.annotation(name)}: is the annotation of {devkit.image(name)}, which does not exist; add the "
              f"picture or remove the annotation" for name in sorted(annotations - images)),
            *(f"{devkit.image(name)}: has no annotation {devkit.annotation(name)}; add it or remove the picture"
              for name in sorted(images - annotations))]


def _stems(folder: Path, suffix: str) -> set[str]:
    return {name.removesuffix(suffix) for name in os.listdir(folder) if name.endswith(suffix)}


@dataclass(frozen=True)
class Decoded:
    """Image `number`: the FarmHash64 of its file, or what is wrong with it.

    Equal files have equal fingerprints, different files almost never (unless made to: the hash is not cryptographic).
    """

    number: int
    fingerprint: int | None
    problem: str | None = None


def decode_all(paths: Sequence[Path], pixels: Sequence[int]) -> Iterator[Decoded]:
    """Decodes each of `paths`; yields the results in any order, as soon as they are known.

    `pixels`: the number of pixels of each image. Leaving the loop, or Ctrl-C, stops the decoding at once.
    """
    import tensorflow as tf

    small = [number for number, area in enumerate(pixels) if area <= LARGE]
    large = [number for number, area in enumerate(pixels) if area > LARGE]
    yield from _decoded(paths, small, tf.data.AUTOTUNE)
    yield from _decoded(paths, large, 1)


def _decoded(paths: Sequence[Path], numbers: list[int], parallel: int) -> Iterator[Decoded]:
    """tf.data drops what raised an error; such images are decoded once more, alone, to get the error."""
    import tensorflow as tf

    if not numbers:
        return
    names = tf.constant([os.fsencode(path) for path in paths])

    def look(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        content = tf.io.read_file(names[number])
        with tf.control_dependencies([decode(content, DECODING)]):
            return tf.identity(number), tf.strings.to_hash_bucket_fast(content, FINGERPRINTS)

    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    outcomes = tf.data.Dataset.from_tensor_slices(numbers).map(look, parallel, deterministic=False)
    outcomes = outcomes.ignore_errors().batch(BATCH_SIZE).with_options(options)
    left = dict.fromkeys(numbers)
    for decoded, fingerprints in outcomes.as_numpy_iterator():
        for number, fingerprint in zip(decoded.tolist(), fingerprints.tolist(), strict=True):
            del left[number]
            yield Decoded(number, fingerprint)
    for number in left:
        yield _decoded_alone(paths[number], number)


def _decoded_alone(path: Path, number: int) -> Decoded:
    import tensorflow as tf

    try:
        content = tf.io.read_file(os.fsencode(path))
        decode(content, DECODING)
    except tf.errors.OpError as error:
        message = re.sub(r"\{\{.*?\}\} *| *\[Op:[^]]*\].*", "", error.message.splitlines()[0])
        return Decoded(number, None, f"{path}: cannot be decoded ({message}); replace it")
    return Decoded(number, int(tf.strings.to_hash_bucket_fast(content, FINGERPRINTS)))
