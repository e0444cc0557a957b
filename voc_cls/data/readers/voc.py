"""PASCAL VOC devkits (VOC2007 and VOC2012): one split → `Dataset`.

    VOCdevkit/VOC2007/Annotations/000005.xml    JPEGImages/000005.jpg    ImageSets/Main/{trainval,car_trainval}.txt
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.data.image_files import read_header
from voc_cls.data.readers.annotation import Annotation, VocObject, read_annotation
from voc_cls.data.readers.imagesets import Listed, class_list_problems, read_split_list
from voc_cls.data.readers.split_scan import raise_first
from voc_cls.errors import DataError
from voc_cls.image_header import ImageHeader

Read = TypeVar("Read")

CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
           "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
CLASS_LISTS = tuple(f"{name}_" for name in CLASSES)
"""How the lists of single classes begin; with the underscore, as `train` is a class and a split."""
FOLDERS = ("Annotations", "ImageSets/Main", "JPEGImages")
OTHER_EXTENSIONS = (".JPG", ".jpeg", ".JPEG", ".png", ".PNG")
"""Under these a picture that is not there as .jpg may be; named in the error, not read."""


@dataclass(frozen=True)
class Devkit:
    """One year's folder, such as VOCdevkit/VOC2007."""

    root: Path

    @property
    def name(self) -> str:
        """Its last part, such as "VOC2007"."""
        return self.root.resolve().name

    def annotation(self, picture_id: str) -> Path:
        """Where the XML of a picture is."""
        return self.root / "Annotations" / f"{picture_id}.xml"

    def picture(self, picture_id: str) -> Path:
        """Where a picture is; named .jpg whatever its format."""
        return self.root / "JPEGImages" / f"{picture_id}.jpg"

    def split_list(self, split: str) -> Path:
        """Where the list of a split is."""
        return self.root / "ImageSets" / "Main" / f"{split}.txt"

    def splits(self) -> tuple[str, ...]:
        """The splits that exist; the lists of single classes are none."""
        names = sorted(path.stem for path in self.split_list("any").parent.glob("*.txt"))
        return tuple(name for name in names if not name.startswith(CLASS_LISTS))


@dataclass(frozen=True)
class Example:
    """One picture of a split that reads without a problem."""

    listed: Listed
    path: Path
    header: ImageHeader
    annotation: Annotation


@dataclass(frozen=True)
class Scan:
    """A split as found. `truth`, int8 [examples, 20], has the rows of `ground_truth`."""

    name: str
    examples: tuple[Example, ...]
    """The pictures that are in order."""
    truth: npt.NDArray[np.int8]
    problems: tuple[str, ...]
    """One sentence each, with file and line; the first problem of a file hides its others."""

    def check(self) -> None:
        """DataError with the first problem, which also says how many more there are."""
        raise_first(self.problems)

    def dataset(self, difficult: DifficultPolicy) -> Dataset:
        """The pictures that are in order, with their labels under the policy."""
        labels, ignored = apply_policy(self.truth, difficult)
        paths = tuple(example.path for example in self.examples)
        return Dataset(self.name, CLASSES, paths, labels, ignored, difficult)


def open_devkit(root: Path) -> Devkit:
    """The devkit at `root`; DataError says what stands there instead, and where a devkit is if one is near."""
    usage = "--root takes the folder of one year, such as VOCdevkit/VOC2007"
    if not os.path.isdir(root):
        raise DataError(f"{root}: {'is a file' if os.path.exists(root) else 'no such folder'}; {usage}")
    missing = [folder for folder in FOLDERS if not os.path.isdir(root / folder)]
    if not missing:
        return Devkit(root)
    try:
        found = ", ".join(sorted(os.listdir(root))[:8]) or "nothing"
    except OSError as error:
        raise DataError(f"{root}: cannot be read ({error.strerror})") from None
    near = [path.parents[1] for pattern in ("*", "*/*") for path in sorted(root.glob(f"{pattern}/ImageSets/Main"))]
    near += [path for path in root.resolve().parents[:2] if all(os.path.isdir(path / folder) for folder in FOLDERS)]
    raise DataError(f"{root}: is no VOC devkit, it has no {' and no '.join(missing)} (found: {found}); "
                    f"{f'pass --root {near[0]}' if near else usage}")


def read_split(root: Path, split: str, difficult: DifficultPolicy = DifficultPolicy.IGNORE) -> Dataset:
    """Reads `ImageSets/Main/<split>.txt` of the devkit `root` (…/VOC2007), its annotations and its pictures' headers.

    Raises DataError with the first problem, by file and line, and says how many more there are.
    """
    scan = scan_split(open_devkit(root), split)
    scan.check()
    return scan.dataset(difficult)


def ground_truth(objects: Iterable[VocObject]) -> npt.NDArray[np.int8]:
    """What a picture with `objects` is for each class, int8 [20] as in `<class>_<split>.txt` of the VOC devkit.

    1: it shows an object that is not difficult; 0: all its objects of the class are difficult; -1: it shows none.
    """
    truth = np.full(len(CLASSES), -1, np.int8)
    for item in objects:
        index = CLASSES.index(item.name)
        truth[index] = max(truth[index], 0 if item.difficult else 1)
    return truth


def apply_policy(truth: npt.NDArray[np.int8],
                 difficult: DifficultPolicy) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """(labels float32, ignored bool) of `Dataset` for `ground_truth`'s 1, 0 and -1, of any shape."""
    only_difficult = truth == 0
    positive = truth >= 0 if difficult is DifficultPolicy.POSITIVE else truth == 1
    ignored = only_difficult if difficult is DifficultPolicy.IGNORE else np.zeros_like(only_difficult)
    return positive.astype(np.float32), ignored


def scan_split(devkit: Devkit, split: str) -> Scan:
    """Reads a whole split and gathers what is wrong; DataError only if there is no such split or it is empty."""
    if split not in devkit.splits():
        path, known = devkit.split_list(split), ", ".join(devkit.splits()) or "none"
        found = "is for the list of a single class, no split" if split.startswith(CLASS_LISTS) else "no such split"
        raise DataError(f"{path}: {found}; the splits of {devkit.name} are: {known}")
    pictures = read_split_list(devkit.split_list(split))
    problems, examples = list(pictures.problems), []
    for listed in pictures.listed:
        example = _read_example(devkit, split, listed, problems)
        if example is not None:
            examples.append(example)
    truth = np.array([ground_truth(example.annotation.objects) for example in examples], np.int8)
    truth = truth.reshape(len(examples), len(CLASSES))
    problems += _class_list_problems(devkit, split, [example.listed for example in examples], truth)
    return Scan(f"{devkit.name} {split}", tuple(examples), truth, tuple(problems))


def _read_example(devkit: Devkit, split: str, listed: Listed, problems: list[str]) -> Example | None:
    """Annotation and header of a picture; None, and more `problems`, if something is wrong with either."""
    xml, path = devkit.annotation(listed.id), devkit.picture(listed.id)
    missing = [str(file) for file in (xml, path) if not os.path.exists(file)]
    if missing:
        others = [other for other in OTHER_EXTENSIONS if os.path.exists(path.with_name(listed.id + other))]
        hint = f" (but {listed.id}{others[0]} does: rename it, its format is read from its bytes)" if others else ""
        problems.append(f"{devkit.split_list(split)}:{listed.line}: lists {listed.id!r}, but {' and '.join(missing)} "
                        f"{'does' if len(missing) == 1 else 'do'} not exist{hint}; add what is missing or take the "
                        f"line out")
        return None
    annotation = _gather(problems, lambda: read_annotation(xml, CLASSES))
    header = _gather(problems, lambda: read_header(path))
    if annotation is None or header is None:
        return None
    if (annotation.width, annotation.height) != (header.width, header.height):
        problems.append(f"{xml}:{annotation.size_line}: says {annotation.width} × {annotation.height} pixels, but "
                        f"{path} has {header.width} × {header.height}; one of them belongs to another picture")
        return None
    return Example(listed, path, header, annotation)


def _gather(problems: list[str], read: Callable[[], Read]) -> Read | None:
    try:
        return read()
    except DataError as error:
        problems.append(str(error))
        return None


def _class_list_problems(devkit: Devkit, split: str, listed: list[Listed], truth: npt.NDArray[np.int8]) -> list[str]:
    problems = []
    for index, name in enumerate(CLASSES):
        path = devkit.split_list(f"{name}_{split}")
        if os.path.exists(path):
            try:
                problems += class_list_problems(path, devkit.split_list(split), listed, truth[:, index].tolist())
            except DataError as error:
                problems.append(str(error))
    return problems
