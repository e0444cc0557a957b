"""PASCAL VOC devkits (VOC2007 and VOC2012): one split, with its annotations.

    VOCdevkit/VOC2007/Annotations/000005.xml    JPEGImages/000005.jpg    ImageSets/Main/{trainval,car_trainval}.txt

`<split>.txt` lists ids, `<class>_<split>.txt` says what each image shows, and the XML files hold the objects. Their
format: http://host.robots.ox.ac.uk/pascal/VOC/voc2007/htmldoc/, section "Annotation". Annotations may come from anyone,
so entities, DTDs and network access are off, and size and depth are bounded. Every error names file and line.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.data.files import read_bytes, read_header, read_lines
from voc_cls.data.readers.split_scan import Box, SplitScan, VocObject
from voc_cls.errors import DataError
from voc_cls.image_header import ImageHeader

CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
           "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
CLASS_LISTS = tuple(f"{name}_" for name in CLASSES)
"""How the names of class lists begin; with the underscore, because `train` is a class and a split."""
FOLDERS = ("Annotations", "ImageSets/Main", "JPEGImages")
OTHER_EXTENSIONS = (".JPG", ".jpeg", ".JPEG", ".png", ".PNG")
"""Extensions under which an image that does not exist as .jpg may exist; named in the error, not read."""
TRUTHS = {"1": 1, "0": 0, "-1": -1}
"""How a class list says positive, only difficult objects, negative."""
ANNOTATION_LIMIT = 2**20
"""Bytes an annotation may have; the largest of VOC2012 has some 20 kB."""
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
UNSET = ("", "Unspecified")
"""What annotation tools write into a flag that nobody has set."""


@dataclass(frozen=True)
class Devkit:
    """One year's folder, such as VOCdevkit/VOC2007."""

    root: Path

    @property
    def name(self) -> str:
        """Its last part, such as "VOC2007"."""
        return self.root.resolve().name

    def annotation(self, image_id: str) -> Path:
        """The XML file of an image."""
        return self.root / "Annotations" / f"{image_id}.xml"

    def image(self, image_id: str) -> Path:
        """The file of an image; named .jpg whatever its format."""
        return self.root / "JPEGImages" / f"{image_id}.jpg"

    def split_list(self, split: str) -> Path:
        """The list of a split."""
        return self.root / "ImageSets" / "Main" / f"{split}.txt"

    def splits(self) -> tuple[str, ...]:
        """The splits that exist; class lists are not splits."""
        names = sorted(path.stem for path in self.split_list("any").parent.glob("*.txt"))
        return tuple(name for name in names if not name.startswith(CLASS_LISTS))


@dataclass(frozen=True)
class Annotation:
    """The content of one XML file: the image's size in pixels and its objects in the order of the file."""

    width: int
    height: int
    size_line: int
    """The line that has the size."""
    objects: tuple[VocObject, ...]


def is_devkit(root: Path) -> bool:
    """Whether `root` has the folders of a devkit."""
    return all((root / folder).is_dir() for folder in FOLDERS)


def open_devkit(root: Path) -> Devkit:
    """The devkit at `root`; DataError says what is there instead, and where a devkit is if one is near."""
    usage = "`root` takes the folder of one year, such as VOCdevkit/VOC2007"
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
    raise DataError(f"{root}: is not a VOC devkit, it has no {' and no '.join(missing)} (found: {found}); "
                    f"{f'pass `root` {near[0]}' if near else usage}")


def ground_truth(objects: Iterable[VocObject]) -> npt.NDArray[np.int8]:
    """Returns what an image with `objects` is for each class, int8 [20] as in `<class>_<split>.txt` of the VOC devkit.

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


def scan_voc(root: Path, split: str, difficult: DifficultPolicy) -> SplitScan:
    """Reads `ImageSets/Main/<split>.txt` of the devkit `root`, its annotations and the headers of its images.

    Raises DataError only where `root` is not a devkit or the split does not exist or is empty.
    """
    devkit = open_devkit(root)
    splits = devkit.splits()
    if split not in splits:
        found = "is for the list of a class, not a split" if split.startswith(CLASS_LISTS) else "no such split"
        raise DataError(f"{devkit.split_list(split)}: {found}; the splits of {devkit.name} are: "
                        f"{', '.join(splits) or 'none'}")
    problems: list[str] = []
    lines = read_split_list(devkit.split_list(split), problems)
    examples = {image_id: example for image_id, line in lines.items()
                if (example := _read_example(devkit, split, image_id, line, problems)) is not None}
    objects = tuple(annotation.objects for _, annotation in examples.values())
    truth = np.array([ground_truth(items) for items in objects], np.int8).reshape(len(examples), len(CLASSES))
    problems += _class_list_problems(devkit, split, {image_id: lines[image_id] for image_id in examples}, truth)
    labels, ignored = apply_policy(truth, difficult)
    dataset = Dataset(f"{devkit.name} {split}", CLASSES, tuple(map(devkit.image, examples)), labels, ignored, difficult)
    return SplitScan(split, dataset, tuple(header for header, _ in examples.values()), tuple(problems), objects)


def _read_example(devkit: Devkit, split: str, image_id: str, line: int, problems: list[str]
                  ) -> tuple[ImageHeader, Annotation] | None:
    """Header and annotation of an image; None, and more `problems`, if something is wrong with either."""
    xml, path = devkit.annotation(image_id), devkit.image(image_id)
    missing = [str(file) for file in (xml, path) if not os.path.exists(file)]
    if missing:
        others = [other for other in OTHER_EXTENSIONS if os.path.exists(path.with_name(image_id + other))]
        hint = f" (but {image_id}{others[0]} does: rename it, its format is read from its bytes)" if others else ""
        problems.append(f"{devkit.split_list(split)}:{line}: lists {image_id!r}, but {' and '.join(missing)} "
                        f"{'does' if len(missing) == 1 else 'do'} not exist{hint}; add what is missing or remove "
                        f"the line")
        return None
    annotation = header = None
    with collecting(problems):
        annotation = read_annotation(xml, CLASSES)
    with collecting(problems):
        header = read_header(path)
    if annotation is None or header is None:
        return None
    if (annotation.width, annotation.height) != (header.width, header.height):
        problems.append(f"{xml}:{annotation.size_line}: says {annotation.width} × {annotation.height} pixels, but "
                        f"{path} has {header.width} × {header.height}; one of them belongs to another picture")
        return None
    return header, annotation


@contextmanager
def collecting(problems: list[str]) -> Iterator[None]:
    """Turns a DataError into one more problem."""
    try:
        yield
    except DataError as error:
        problems.append(str(error))


def _class_list_problems(devkit: Devkit, split: str, lines: Mapping[str, int], truth: npt.NDArray[np.int8]
                         ) -> list[str]:
    problems: list[str] = []
    for index, name in enumerate(CLASSES):
        path = devkit.split_list(f"{name}_{split}")
        if os.path.exists(path):
            with collecting(problems):
                problems += class_list_problems(path, devkit.split_list(split), lines, truth[:, index].tolist())
    return problems


def read_split_list(path: Path, problems: list[str]) -> dict[str, int]:
    """The ids of `<split>.txt`, one a line, and their lines; blank lines, trailing spaces and CRLF are ignored.

    Ids that occur twice or cannot be the name of a file are omitted and added to `problems`. Raises DataError where
    the list cannot be read or is empty.
    """
    lines: dict[str, int] = {}
    for line, text in read_lines(path):
        problem = _id_problem(text)
        if problem is None and text in lines:
            problem = f"lists {text!r} again, it is on line {lines[text]} too; remove one"
        if problem is None:
            lines[text] = line
        else:
            problems.append(f"{path}:{line}: {problem}")
    if not lines and not problems:
        raise DataError(f"{path}:1: is empty; a split lists the ids of its pictures, one a line")
    return lines


def _id_problem(text: str) -> str | None:
    if len(text.split()) > 1:
        return f"has {text!r} where one id is expected; lists with two columns belong to a class, not to a split"
    if "/" in text or "\\" in text or text in (".", "..") or not text.isprintable():
        return f"the id {text!r} is not the plain name of a file; write it without folder and extension"
    return None


def class_list_problems(path: Path, split: Path, lines: Mapping[str, int], truths: Sequence[int]) -> list[str]:
    """Compares a class list with the annotations; returns a sentence for each difference.

    Images that only the class list has are ignored: a split may have been shortened.

    Args:
        path: the class list, `<class>_<split>.txt`.
        split: the list of the split.
        lines: the images of the split and their lines there.
        truths: 1, 0 or -1 for each of them, as by `ground_truth`.
    """
    entries: dict[str, tuple[int, int]] = {}
    problems = []
    for line, text in read_lines(path):
        columns = text.split()
        if len(columns) != 2 or columns[1] not in TRUTHS:
            problems.append(f"{path}:{line}: has {text!r} where an id and 1, 0 or -1 are expected")
        elif columns[0] in entries:
            problems.append(f"{path}:{line}: lists {columns[0]!r} again, it is on line {entries[columns[0]][1]} too; "
                            "remove one")
        else:
            entries[columns[0]] = TRUTHS[columns[1]], line
    for (image_id, split_line), truth in zip(lines.items(), truths, strict=True):
        if image_id not in entries:
            problems.append(f"{path}:1: does not list {image_id!r}, which is on line {split_line} of {split.name}; "
                            "add it, or remove the class list")
        elif entries[image_id][0] != truth:
            value, line = entries[image_id]
            problems.append(f"{path}:{line}: says {value} for {image_id!r}, its annotation says {truth} "
                            "(1: shown, 0: only difficult objects, -1: not shown); correct one of them")
    return problems


def read_annotation(path: Path, classes: Sequence[str]) -> Annotation:
    """Reads `path`, the annotation of the image `path.stem`.

    `pose`, `truncated`, `difficult`, `segmented`, `source`, `folder`, `filename`, parts and actions are optional.
    Raises DataError naming file and line: malformed or oversized XML, a document type declaration, an unknown class,
    a size or box that is missing, not a number, empty or outside the image, a `filename` of another image.
    """
    root = _parse(path)
    if root.tag != "annotation":
        raise _error(path, root, f"the outermost element is <{root.tag}>; a VOC annotation starts with <annotation>")
    filename = _text(path, root, "filename", default=path.stem)
    if filename != path.stem and filename.rpartition(".")[0] != path.stem:
        raise _error(path, _child(path, root, "filename"),
                     f"is the annotation of {filename!r}, but the file's own name says {path.stem!r}")
    size = _child(path, root, "size")
    width, height = (_pixels(path, size, side) for side in ("width", "height"))
    objects = tuple(_object(path, element, classes, width, height) for element in root.findall("object"))
    return Annotation(width, height, size.sourceline, objects)


def _parse(path: Path) -> Any:
    """The root element. libxml2 itself stops at a depth of 256 and at text nodes of 10 MB."""
    from lxml import etree

    content = read_bytes(path, ANNOTATION_LIMIT)
    if not content.strip():
        raise DataError(f"{path}:1: is empty; a VOC annotation starts with <annotation>")
    declaration = re.search(rb"<!(DOCTYPE|ENTITY)", content)
    if declaration:
        line = content.count(b"\n", 0, declaration.start()) + 1
        raise DataError(f"{path}:{line}: has a document type declaration, which can hide entity bombs and file "
                        f"accesses; VOC annotations have none, remove it")
    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, dtd_validation=False, attribute_defaults=False,
                             no_network=True, huge_tree=False, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        message = re.sub(r", line \d+, column \d+.*", "", " ".join(str(error.msg).split()))
        raise DataError(f"{path}:{error.lineno or 1}: malformed XML: {message}; correct or remove the file") from None
    if root.getroottree().docinfo.internalDTD is not None:  # behind an encoding that hid it from the search above
        raise DataError(f"{path}:1: has a document type declaration; VOC annotations have none, remove it")
    return root


def _object(path: Path, element: Any, classes: Sequence[str], width: int, height: int) -> VocObject:
    name = _text(path, element, "name")
    if name not in classes:
        raise _error(path, _child(path, element, "name"), f"unknown class {name!r}; known are {', '.join(classes)}")
    corners = _child(path, element, "bndbox")
    box = Box(*(_number(path, corners, edge) for edge in ("xmin", "ymin", "xmax", "ymax")))
    found = f"the box of {name!r} is ({box.xmin:g}, {box.ymin:g}) to ({box.xmax:g}, {box.ymax:g})"
    if box.xmin > box.xmax or box.ymin > box.ymax:
        raise _error(path, corners, f"{found}: its right or bottom edge comes before its left or top edge")
    if box.xmin < 0 or box.ymin < 0 or box.xmax > width or box.ymax > height:  # 0: tools that count from 0
        raise _error(path, corners, f"{found}, outside the picture of {width} × {height} pixels")
    return VocObject(name, box, _flag(path, element, "difficult"), _flag(path, element, "truncated"))


def _child(path: Path, parent: Any, tag: str) -> Any:
    """The only child `tag` of `parent`; children of its parts, which have names and boxes too, do not count."""
    found = parent.findall(tag)
    if not found:
        raise _error(path, parent, f"<{parent.tag}> has no <{tag}>; add it")
    if len(found) > 1:
        raise _error(path, found[1], f"a second <{tag}> in the same <{parent.tag}>; remove one")
    return found[0]


def _text(path: Path, parent: Any, tag: str, default: str | None = None) -> str:
    if default is not None and parent.find(tag) is None:
        return default
    return (_child(path, parent, tag).text or "").strip()


def _number(path: Path, parent: Any, tag: str) -> float:
    text = _text(path, parent, tag)
    if not NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise _error(path, _child(path, parent, tag), f"<{tag}> is {text!r}; a number of pixels is expected")
    return float(text)


def _pixels(path: Path, size: Any, side: str) -> int:
    value = _number(path, size, side)
    if value < 1 or value != int(value):
        raise _error(path, _child(path, size, side), f"the picture's {side} is {value:g}; give its size in pixels")
    return int(value)


def _flag(path: Path, element: Any, tag: str) -> bool:
    text = _text(path, element, tag, default="0")
    if text not in ("0", "1", *UNSET):
        raise _error(path, _child(path, element, tag), f"<{tag}> is {text!r}; 0 or 1 is expected")
    return text == "1"


def _error(path: Path, element: Any, found: str) -> DataError:
    return DataError(f"{path}:{element.sourceline}: {found}")
