"""What a reader is and returns: a split as found on disk, with a sentence for everything that is wrong with it.

Readers list the images with the names of their classes; here the names become labels and the headers are read.
"""

from __future__ import annotations

import difflib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal
from unicodedata import normalize

import numpy as np

from voc_cls.data.dataset import DataKind, Dataset, DifficultPolicy, Source, Task
from voc_cls.data.files import read_header
from voc_cls.errors import DataError, UsageError
from voc_cls.image_header import ImageHeader

Role = Literal["train", "val", "test"]
SPLIT_FILLER = r"(?:set|data|dataset|images?|imgs?|pictures|photos|folder|dir|split|seg|single|jpg|png|\d)"
"""What may stand before and after the word that says what a split is for."""
SPLIT = re.compile(rf"(?:{SPLIT_FILLER}[-_ ]?)*(?:(?P<train>train(?:ing|val)?)|(?P<val>val(?:id|idation)?|dev|eval)|"
                   rf"(?P<test>test(?:ing)?|pred(?:iction)?))(?:[-_ ]?{SPLIT_FILLER})*", re.IGNORECASE)
"""What splits are called: train, Training, training_set, seg_train, valid, val2017, test1 and the like."""
UNWRITABLE = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
"""Control characters, line ends, and Python's stand-ins for bytes that are not UTF-8: labels.txt has a name a line."""
SURROGATES = re.compile("[\ud800-\udfff]")
NAMED_CLASSES = 12
"""Classes that an error names at most; ImageNet has 1,000."""


@dataclass(frozen=True, slots=True)
class Box:
    """Left, top, right and bottom edge in pixels, the outermost included; 1-based in VOC, sometimes fractional."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


@dataclass(frozen=True, slots=True)
class VocObject:
    """One annotated object. `difficult`: VOC's evaluation ignores it. `truncated`: the box shows only a part of it."""

    name: str
    box: Box | None
    """None where the annotation has none that can be used."""
    difficult: bool = False
    truncated: bool = False
    line: int = field(default=0, compare=False)
    """Where it is in its file."""


@dataclass(frozen=True)
class SplitScan:
    """`dataset` has the images without a problem; `problems` name the file and, in lists and annotations, the line."""

    split: str
    dataset: Dataset
    headers: tuple[ImageHeader, ...]
    """One for each image of `dataset`."""
    problems: tuple[str, ...] = ()
    objects: tuple[tuple[VocObject, ...], ...] | None = None
    """The annotated objects of each image; None where the kind of data set has none."""
    warnings: tuple[str, ...] = ()
    """What is worth knowing and hinders nothing, a sentence for each kind of it: see `summed_up`."""

    def checked(self) -> Dataset:
        """The data set with the warnings; DataError with the first problem and the number of the others."""
        raise_first(self.problems)
        return replace(self.dataset, warnings=self.warnings)


class Reader(ABC):
    """A data set of one kind, as it is on disk. What its files are is looked up once, when it is first needed."""

    kind: ClassVar[DataKind]

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self.roots, self.root = roots, roots[0]

    @property
    def where(self) -> str:
        """The roots, for the beginning of a sentence."""
        return ", ".join(map(str, self.roots))

    @staticmethod
    @abstractmethod
    def matches(root: Path) -> bool:
        """Whether a file or folder looks like this kind."""

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits that exist; DataError where there is no such data set."""

    def has_classes(self, split: str) -> bool:  # noqa: ARG002
        """Whether the classes of a split are known; those of the test images of competitions are not."""
        return True

    def unpaired(self) -> list[str]:
        """A sentence about each file that belongs to no image of any split."""
        return []

    @abstractmethod
    def _scan(self, split: str, difficult: DifficultPolicy, chosen: Sequence[str]) -> SplitScan:
        """Reads a split with all its classes; `chosen`: those that will be used, none: all."""

    @property
    def labelled_splits(self) -> tuple[str, ...]:
        """The splits that have classes."""
        return tuple(split for split in self.splits if self.has_classes(split))

    def scan(self, split: str, difficult: DifficultPolicy = DifficultPolicy.IGNORE, classes: tuple[str, ...] = ()
             ) -> SplitScan:
        """Like `read_dataset`, but the problems of single images and lines are collected, not raised."""
        if self.kind != "voc" and difficult is not DifficultPolicy.IGNORE:
            raise UsageError(f"`difficult` {difficult}: only voc has difficult objects, {self.kind} has none; omit it")
        if split not in self.splits:
            raise self._unknown_split(split)
        scan = self._scan(split, difficult, classes)
        if classes:
            scan = choose_classes(scan, classes)
        source = Source(self.kind, self.roots, split, difficult, classes=classes)
        return replace(scan, dataset=replace(scan.dataset, source=source))

    def _unknown_split(self, split: str) -> DataError:
        return DataError(f"{self.root}: there is no split {split!r}; the splits are: {', '.join(self.splits)}")


def is_split_name(name: str) -> bool:
    """Whether a folder or list of this name is a split."""
    return SPLIT.fullmatch(name) is not None


def split_for(role: Role, splits: Sequence[str]) -> str | None:
    """The split that is called `role`, else the only one with such a name; None where there is none, or several."""
    alike = [name for name in splits if (match := SPLIT.fullmatch(name)) and match[role]]
    return role if role in alike else alike[0] if len(alike) == 1 else None


def raise_first(problems: Sequence[str]) -> None:
    """DataError with the first problem, if there is any, and the number of the others."""
    if problems:
        more = len(problems) - 1
        raise DataError(problems[0] + (f" (and {more:,} more: `voc-data check` lists them all)" if more else ""))


def summed_up(findings: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """A sentence for each kind of finding, with the first place and the number of the others.

    findings: (where, what) such as ("a.xml:3", "has no <size>"); what is the same text for all of a kind.
    """
    places: dict[str, list[str]] = {}
    for where, what in findings:
        places.setdefault(what, []).append(where)
    return tuple(f"{where[0]}: {what}" + (f" (and {len(where) - 1:,} more)" if len(where) > 1 else "")
                 for what, where in places.items())


def choose_classes(scan: SplitScan, classes: Sequence[str]) -> SplitScan:
    """The scan with these classes alone, in this order, and a warning that counts what is ignored.

    Multi-label: an image of other classes alone becomes one of no class. Single-label: it is left out.
    UsageError for a class that the data set does not have, or that is given twice.
    """
    dataset = scan.dataset
    for number, name in enumerate(classes):
        if name not in dataset.classes:
            raise UsageError(f"`classes`: {unknown_class(name, dataset.classes, dataset.name)}")
        if name in classes[:number]:
            raise UsageError(f"`classes` {name}: is given twice; give each class once")
    columns = [dataset.classes.index(name) for name in classes]
    chosen = dataset.labels[:, columns].any(axis=1)
    rows = np.flatnonzero(chosen) if dataset.single_label else np.arange(len(dataset))
    other = np.delete(dataset.labels, columns, axis=1)
    names = [name for name, count in dataset.positives.items() if count and name not in classes]
    images = int(other.any(axis=1).sum())
    effect = "these images are left out" if dataset.single_label else "these classes are ignored"
    warning = (f"{dataset.name}: {images:,} of {len(dataset):,} pictures show classes that were not chosen "
               f"({shown_classes(names)}); {effect}")
    objects = scan.objects and tuple(tuple(item for item in scan.objects[row] if item.name in classes) for row in rows)
    return replace(scan, dataset=dataset.subset(rows, dataset.name).only(columns), objects=objects,
                   headers=tuple(scan.headers[row] for row in rows),
                   warnings=(*scan.warnings, *([warning] if names else [])))


@dataclass(frozen=True)
class LabelledImage:
    """An image with the names of its classes, and of those for which it counts neither way."""

    path: Path
    classes: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    where: str = ""
    """What a problem of the image begins with, such as "train.csv:3: "."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Its cells in the further columns of a CSV, by name."""
    objects: tuple[VocObject, ...] = ()


def scan_images(root: Path, split: str, task: Task, classes: Sequence[str], images: Iterable[LabelledImage],
                problems: Iterable[str] = (), warnings: Iterable[str] = ()) -> SplitScan:
    """Reads the headers of `images`.

    root: folder whose last part names the data set. classes: all of them, in the order of the labels. problems: what
    the reader found already; images that cannot be read are added.
    """
    all_problems, good, headers = list(problems), [], []
    seen: dict[str, LabelledImage] = {}
    for image in images:
        try:
            if SURROGATES.search(str(image.path)):
                raise DataError(f"{str(image.path)!r}: its name is not UTF-8; rename it")
            before = seen.setdefault(os.path.realpath(image.path), image)
            if (set(before.classes), set(before.ignored)) != (set(image.classes), set(image.ignored)):
                raise DataError(f"{image.path}: is the same file as {before.where}{before.path}, which has other "
                                "classes; correct or remove one of the two")
            headers.append(read_header(image.path))
            good.append(image)
        except DataError as error:
            all_problems.append(f"{image.where}{error}")
    names = tuple(dict.fromkeys(normalize("NFC", name) for name in classes))  # macOS decomposes the names of folders
    column = {name: names.index(normalize("NFC", name)) for name in classes}
    labels, ignored = np.zeros((len(good), len(names)), np.float32), np.zeros((len(good), len(names)), bool)
    for row, image in enumerate(good):
        labels[row, [column[label] for label in image.classes]] = 1
        ignored[row, [column[label] for label in image.ignored]] = True
    columns = {name: tuple(image.columns.get(name, "") for image in good)
               for name in dict.fromkeys(name for image in good for name in image.columns)}
    dataset = Dataset(f"{root.resolve().name} {split}", names, tuple(image.path for image in good), labels,
                      ignored, task=task, columns=columns)
    objects = tuple(image.objects for image in good)
    return SplitScan(split, dataset, tuple(headers), tuple(all_problems), objects if any(objects) else None,
                     tuple(warnings))


def class_problem(name: str) -> str | None:
    """What is wrong with the name of a class; None where it can be used."""
    if not name or name.lower() == "nan":  # as pandas writes it
        return f"has an empty class{name and f' ({name})'}"
    if UNWRITABLE.search(name) or name != name.strip():
        return (f"has the class {name!r}, which begins or ends with white space or holds a control character or one "
                "that is not UTF-8; rename it")
    return None


def unknown_class(name: str, classes: Sequence[str], where: str) -> str:
    """The sentence about a class that is not among `classes`, the list `where`; it names similar ones."""
    near = difflib.get_close_matches(name, classes, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {shown_classes(classes)}"
    return f"unknown class {name!r}, it is not in {where}; {hint}"


def shown_classes(classes: Sequence[str]) -> str:
    """The names of classes for a sentence, not all if there are many."""
    return ", ".join(classes[:NAMED_CLASSES]) + (", …" if len(classes) > NAMED_CLASSES else "")
