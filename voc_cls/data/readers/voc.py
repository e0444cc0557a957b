"""Images with annotations in PASCAL VOC's XML, of VOC itself or of any classes: one split.

`voc_folders` finds the files and reads the splits, `voc_annotation` the objects; here they become labels. The
classes are those of `classes.txt` or CVAT's `labelmap.txt` beside the annotations; else VOC's where the annotations
are, else all that occur, sorted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from unicodedata import normalize

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.data.files import read_header, read_lines
from voc_cls.data.readers.csv import CLASS_FILE, read_class_file
from voc_cls.data.readers.folder import walk
from voc_cls.data.readers.split_scan import Reader, SplitScan, VocObject, class_problem, summed_up
from voc_cls.data.readers.voc_annotation import Annotation, compare_with_image, object_names, read_annotation
from voc_cls.data.readers.voc_folders import Devkit, Entry, class_list_problems, open_devkits
from voc_cls.errors import DataError
from voc_cls.image_header import ImageHeader

CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
           "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
CLASS_FILES = (CLASS_FILE, "labelmap.txt", "class_names.txt")
"""Lists of classes beside annotations: this project's, CVAT's and labelme's."""
BACKGROUND = ("background", "_background_", "__ignore__")
"""Their entries that are not classes."""
SOURCE = re.compile(rb"<database>[^<]*\bVOC")
"""How VOC's annotations say where they are from."""
VOC = CLASSES, "VOC's classes"
NAMES_LOOKED_AT = 20_000
"""Files among which an annotation must be for a folder to be recognised."""
KnownClasses = tuple[tuple[str, ...], str]
"""Classes, and where they are listed."""


@dataclass(frozen=True)
class Example:
    """An image of a split, and what it shows."""

    image: Path
    header: ImageHeader
    objects: tuple[VocObject, ...]


def ground_truth(objects: Iterable[VocObject], classes: Sequence[str] = CLASSES) -> npt.NDArray[np.int8]:
    """Returns what an image with `objects` is for each class, int8 as in `<class>_<split>.txt` of the VOC devkit.

    1: it shows an object that is not difficult; 0: all its objects of the class are difficult; -1: it shows none.
    """
    truth = np.full(len(classes), -1, np.int8)
    for item in objects:
        index = classes.index(item.name)
        truth[index] = max(truth[index], 0 if item.difficult else 1)
    return truth


def apply_policy(truth: npt.NDArray[np.int8],
                 difficult: DifficultPolicy) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """(labels float32, ignored bool) of `Dataset` for `ground_truth`'s 1, 0 and -1, of any shape."""
    positive = truth >= (0 if difficult is DifficultPolicy.POSITIVE else 1)
    return positive.astype(np.float32), (truth == 0) & (difficult is DifficultPolicy.IGNORE)


class VocReader(Reader):
    """One or several devkits; the splits are those that at least one of them has."""

    kind = "voc"

    @staticmethod
    def matches(root: Path) -> bool:
        """Whether `root` is a folder with VOC annotations, to judge by the first XML files."""
        files = (file for file in islice(walk(root), NAMES_LOOKED_AT) if file.lower().endswith(".xml"))
        return root.is_dir() and any(re.search(rb"<annotation[\s>]", _start(file)) for file in islice(files, 10)
                                     if os.path.isfile(file))

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(sorted({split for devkit in self._devkits for split in devkit.splits}))

    def has_classes(self, split: str) -> bool:
        return any(split in devkit.splits and devkit.is_annotated(split) for devkit in self._devkits)

    def unpaired(self) -> list[str]:
        """Annotations without an image and images without an annotation, in any list or none.

        Without lists, every annotation is read anyway, and an image without one is told as a warning.
        """
        return [problem for devkit in self._devkits if devkit.lists for problem in (
            *(f"{path}: is the annotation of {devkit.images.folder / path.stem}.jpg, which does not exist; add the "
              "picture or remove the annotation" for path in devkit.annotations.without(devkit.images)),
            *(f"{path}: has no annotation {devkit.annotations.folder / path.stem}.xml; add it or remove the picture"
              for path in devkit.images.without(devkit.annotations)))]

    @cached_property
    def _devkits(self) -> tuple[Devkit, ...]:
        return tuple(devkit for root in self.roots for devkit in open_devkits(root))

    @cached_property
    def _classes(self) -> tuple[tuple[str, ...], dict[Devkit, KnownClasses]]:
        """(all classes: those that are listed, then those that occur elsewhere; devkit → the classes of its list)."""
        known: dict[Devkit, KnownClasses] = {}
        occurring: set[str] = set()
        for devkit in self._devkits:
            names = _listed_classes(devkit)
            if names is None:
                found = {name for paths in devkit.annotations.by_id.values() for name in object_names(paths[0])}
                first = next(iter(devkit.annotations.by_id.values()))[0]
                names = VOC if found <= set(CLASSES) and (devkit.lists or SOURCE.search(_start(first))) else None
                occurring |= found
            if names is not None:
                known[devkit] = names
        listed = dict.fromkeys(name for names, _ in known.values() for name in names)
        all_names = (*listed, *sorted(name for name in occurring if name not in listed and class_problem(name) is None))
        if not all_names:
            raise DataError(f"{self.root}: no annotation has an object, so there are no classes; list them in "
                            f"{CLASS_FILE} beside the annotations")
        return all_names, known

    def _scan(self, split: str, difficult: DifficultPolicy, chosen: Sequence[str]) -> SplitScan:
        having, warnings = self._having(split)
        names, known = self._classes
        problems: list[str] = []
        findings: list[tuple[str, str]] = []
        examples = {devkit: _read_examples(devkit, split, None if chosen else known.get(devkit), problems, findings)
                    for devkit in having}
        flat = [example for read in examples.values() for example in read.values()]
        names = (*names, *sorted({item.name for example in flat for item in example.objects}.difference(names)))
        truths = []
        for devkit, read in examples.items():
            truth = np.array([ground_truth(example.objects, names) for example in read.values()], np.int8)
            truths.append(truth.reshape(len(read), len(names)))
            lines = {entry.image_id: entry.line for entry in read}
            for name, column in zip(names if devkit.lists else (), truths[-1].T.tolist(), strict=False):
                path = devkit.split_list(f"{name}_{split}")
                if path.is_file() and path.stem not in devkit.splits:
                    problems += class_list_problems(path, devkit.split_list(split), lines, column, devkit.resolve,
                                                    complete=known.get(devkit) == VOC)
        labels, ignored = apply_policy(np.concatenate(truths), difficult)
        dataset = Dataset(f"{_names(having)} {split}", names, tuple(example.image for example in flat), labels, ignored,
                          difficult)
        return SplitScan(split, dataset, tuple(example.header for example in flat), tuple(problems),
                         tuple(example.objects for example in flat), (*warnings, *summed_up(findings)))

    def _unknown_split(self, split: str) -> DataError:
        path = self._devkits[0].split_list(split)
        found = "is for the list of a class, not a split" if path.is_file() and ".." not in split else "no such split"
        return DataError(f"{path}: {found}; the splits of {_names(self._devkits)} are: "
                         f"{', '.join(self.splits) or 'none'}")

    def _having(self, split: str) -> tuple[list[Devkit], list[str]]:
        """The devkits that have a split, and a warning for each that has not."""
        devkits = self._devkits
        having = [devkit for devkit in devkits if split in devkit.splits]
        if len(having) > 1:
            having = [devkit for devkit in having if devkit.is_annotated(split)] or having
        return having, [f"{devkit.root}: has no split {split} with annotations; {split} is of {_names(having)} alone"
                        for devkit in devkits if devkit not in having]


def _names(devkits: Sequence[Devkit]) -> str:
    return "+".join(devkit.name for devkit in devkits)


def _read_examples(devkit: Devkit, split: str, known: KnownClasses | None, problems: list[str],
                   findings: list[tuple[str, str]]) -> dict[Entry, Example]:
    """The images of a split with their annotations; what is wrong is added to `problems`, what is odd to `findings`."""
    examples = {}
    for entry in devkit.entries(split, problems):
        try:
            examples[entry] = _read_example(entry, devkit, known, findings)
        except DataError as error:
            problems.append(str(error))
    if devkit.lists is None:
        findings += [(str(path), "has no annotation and is left out")
                     for path in devkit.images.without(devkit.annotations) if devkit.split_of(path) in (None, split)]
    return examples


def _read_example(entry: Entry, devkit: Devkit, known: KnownClasses | None, findings: list[tuple[str, str]]) -> Example:
    xml, default = entry.annotation, devkit.images.folder / f"{entry.image_id}.jpg"
    missing = [*([] if os.path.exists(xml) else [str(xml)]), *([] if entry.images else [str(default)])]
    if missing:
        if devkit.lists is None and read_annotation(xml, *(known or ())):
            raise DataError(f"{xml}: there is no picture of this name in {devkit.root}; add it or remove the "
                            "annotation")
        verb = "does" if len(missing) == 1 else "do"
        raise DataError(f"{entry.where}: lists {entry.image_id!r}, but {' and '.join(missing)} {verb} not exist; "
                        "add what is missing or remove the line")
    annotation = read_annotation(xml, *(known or ()))
    image = _image(entry, annotation)
    header = read_header(image)
    lines: dict[str, int] = {}
    for line, what in (*annotation.warnings, *compare_with_image(xml, annotation, image, header)):
        lines.setdefault(what, line)
    findings += [(f"{xml}:{line}", what) for what, line in lines.items()]
    findings += [(str(path), "has the name of another picture with an annotation and is left out")
                 for path in entry.images if path != image]
    return Example(image, header, annotation.objects)


def _image(entry: Entry, annotation: Annotation) -> Path:
    """The one of several files with equal names that the annotation means, else the .jpg."""
    images = entry.images
    for pattern in (normalize("NFC", annotation.filename), f"{entry.image_id.rpartition('/')[2]}.jpg"):
        images = tuple(path for path in images if normalize("NFC", path.name) == pattern) or images
    if len(images) > 1:
        raise DataError(f"{entry.annotation}: {' and '.join(map(str, images))} have its name; name one of them in "
                        "<filename>, or remove the others")
    return images[0]


def _listed_classes(devkit: Devkit) -> KnownClasses | None:
    """The classes of a list beside the annotations, or VOC's where its class lists are; None without either."""
    for folder in (devkit.root, devkit.annotations.folder):
        for path in (folder / name for name in CLASS_FILES):
            if path.is_file():
                names = read_class_file(path) if path.name == CLASS_FILE else _labelmap(path)
                names = tuple(dict.fromkeys(normalize("NFC", name) for name in names))
                return CLASSES if set(names) == set(CLASSES) else names, str(path)
    stems = {path.stem for path in devkit.lists.glob("*.txt")} if devkit.lists else set()
    return VOC if any({f"{name}_{split}" for name in CLASSES} <= stems for split in devkit.splits) else None


def _labelmap(path: Path) -> tuple[str, ...]:
    """The classes of CVAT's labelmap.txt (label:color_rgb:parts:actions) or labelme's class_names.txt."""
    names = (text.partition(":")[0].strip() for _, text in read_lines(path) if not text.startswith("#"))
    return tuple(dict.fromkeys(name for name in names if name not in BACKGROUND and class_problem(name) is None))


def _start(file: str | Path) -> bytes:
    with open(file, "rb") as content:
        return content.read(4096)
