"""One annotation in VOC's XML: the classes of the objects, and whether the file fits its image.

Its format: http://host.robots.ox.ac.uk/pascal/VOC/voc2007/htmldoc/, section "Annotation". Labels need the names of the
objects alone. So a size or a box that is missing or imprecise, as labelling tools write them, is a warning; what says
that the file belongs to another image, or hides the labels, is an error. Annotations may come from anyone, so entities,
DTDs and network access are off, and size and depth are bounded. Every sentence names file and line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

from voc_cls.data.files import read_bytes
from voc_cls.data.readers.split_scan import Box, VocObject, class_problem, unknown_class
from voc_cls.errors import DataError
from voc_cls.image_header import ImageHeader

ANNOTATION_LIMIT = 2**20
"""Bytes an annotation may have; the largest of VOC2012 has some 20 kB."""
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
UNSET = ("", "unspecified")
"""What annotation tools write into a flag that nobody has set, in lower case."""
NO_SIZE = "has no <size> in whole pixels; the picture's own is used"
NO_BOX = "an object has no box of four numbers; only its class is used"
SWAPPED_BOX = "the right or bottom edge of a box comes before its left or top edge; only the object's class is used"
BOX_OUTSIDE = "a box reaches beyond the picture; only the object's class is used"
NOT_SET = "<difficult> is not set; 0 is used"


@dataclass(frozen=True)
class Annotation:
    """The content of one XML file: the image's size in pixels and its objects in the order of the file."""

    size: tuple[int, int] | None
    """Width and height; None where the file does not have them."""
    size_line: int
    """The line that has the size."""
    objects: tuple[VocObject, ...]
    warnings: tuple[tuple[int, str], ...] = ()
    """(line, what was found) of what hinders nothing."""
    filename: str = field(default="", compare=False)
    """The name of the image file, without folders; empty where the file has none."""


def read_annotation(path: Path, classes: Sequence[str] | None = None, where: str = "") -> Annotation:
    """Reads `path`, the annotation of the image `path.stem`. Everything but the names of the objects is optional.

    classes: the names that may occur, None for any; where: the list that they are from. Raises DataError for malformed
    or oversized XML, a document type declaration, an object without a name or of an unknown class, a `difficult` that
    is neither 0 nor 1, a `filename` of another image.
    """
    root = _parse(path)
    if root.tag != "annotation":
        raise _error(path, root, f"the outermost element is <{root.tag}>; a VOC annotation starts with <annotation>")
    filename = re.split(r"[\\/]", _text(path, root, "filename", default=""))[-1]
    stem, names = _comparable(path.stem), (_comparable(filename), _comparable(filename.rpartition(".")[0]))
    if filename and stem not in names:
        raise _error(path, _child(path, root, "filename"),
                     f"is the annotation of {filename!r}, but the file's own name says {path.stem!r}; correct "
                     "<filename>, or rename the file")
    size = root.find("size")
    sides = [None if size is None else _number(size, side) for side in ("width", "height")]
    whole = [int(side) for side in sides if side is not None and side >= 1 and side == int(side)]
    line = root.sourceline if size is None else size.sourceline
    warnings = [] if len(whole) == 2 else [(line, NO_SIZE)]
    elements = root.findall("object")
    for element in root.iter("{*}object", "{*}Object"):
        if element not in elements:
            raise _error(path, element, f"<{element.tag}> in <{element.getparent().tag}> is not read as an object; "
                         "VOC's are <object> directly in <annotation>")
    objects = tuple(_object(path, element, classes, where, warnings) for element in elements)
    return Annotation((whole[0], whole[1]) if len(whole) == 2 else None, line, objects, tuple(warnings), filename)


def object_names(path: Path) -> set[str]:
    """The names of the objects in `path`; none where it cannot be read."""
    try:
        return {normalize("NFC", (name.text or "").strip()) for name in _parse(path).findall("object/name")} - {""}
    except DataError:
        return set()


def compare_with_image(path: Path, annotation: Annotation, image: Path, header: ImageHeader) -> list[tuple[int, str]]:
    """Returns (line, what was found) where the annotation of `path` is imprecise about its image.

    Tools write the size as stored or as displayed. DataError where it is neither, or a box lies where no part of the
    image can be.
    """
    stored, size = (header.width, header.height), annotation.size
    if size is not None and size not in (stored, header.upright_size):
        shown = f"{header.width} × {header.height}" + (
            "" if stored == header.upright_size else " (as EXIF turns it, {} × {})".format(*header.upright_size))
        raise DataError(f"{path}:{annotation.size_line}: says {size[0]} × {size[1]} pixels, but {image} has {shown}; "
                        "one of them belongs to another picture")
    width, height = map(max, zip(*([size] if size else [stored, header.upright_size]), strict=True))
    warnings = []
    for item in annotation.objects:
        box = item.box
        if box is None or (box.xmin >= 0 and box.ymin >= 0 and box.xmax <= width and box.ymax <= height):
            continue  # 0: tools that count from 0
        if not (-width <= box.xmin < width and -height <= box.ymin < height
                and 0 < box.xmax <= 2 * width and 0 < box.ymax <= 2 * height):
            raise DataError(f"{path}:{item.line}: the box of {item.name!r} is ({box.xmin:g}, {box.ymin:g}) to "
                            f"({box.xmax:g}, {box.ymax:g}), far outside the picture of {width} × {height} pixels; "
                            "one of them belongs to another picture")
        warnings.append((item.line, BOX_OUTSIDE))
    return warnings


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


def _object(path: Path, element: Any, classes: Sequence[str] | None, where: str, warnings: list[tuple[int, str]]
            ) -> VocObject:
    name = normalize("NFC", _text(path, element, "name"))
    problem = class_problem(name) or (unknown_class(name, classes, where)
                                      if classes is not None and name not in classes else None)
    if problem:
        raise _error(path, _child(path, element, "name"), problem)
    box, difficult = _box(element, warnings), _flag(path, element, "difficult")
    if difficult is None and element.find("difficult") is not None:
        warnings.append((element.find("difficult").sourceline, NOT_SET))
    return VocObject(name, box, bool(difficult), bool(_flag(path, element, "truncated")),
                     element.sourceline)


def _box(element: Any, warnings: list[tuple[int, str]]) -> Box | None:
    """The box of an object; None, and one more of `warnings`, where it has none that can be used."""
    corners = element.find("bndbox")
    edges = [] if corners is None else [_number(corners, edge) for edge in ("xmin", "ymin", "xmax", "ymax")]
    numbers = [edge for edge in edges if edge is not None]
    if len(numbers) < 4:
        warnings.append((element.sourceline, NO_BOX))
        return None
    box = Box(*numbers)
    if box.xmin > box.xmax or box.ymin > box.ymax:
        warnings.append((element.sourceline, SWAPPED_BOX))
        return None
    return box


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


def _number(parent: Any, tag: str) -> float | None:
    """The number in the child `tag`; None where there is none."""
    text = (parent.findtext(tag) or "").strip()
    return float(text) if NUMBER.fullmatch(text) and math.isfinite(float(text)) else None


def _flag(path: Path, element: Any, tag: str) -> bool | None:
    """None where nobody has set the flag."""
    text = _text(path, element, tag, default="").lower()
    if text not in (*FLAGS, *UNSET):
        raise _error(path, _child(path, element, tag), f"<{tag}> is {text!r}; 0 or 1 is expected")
    return FLAGS.get(text)


def _comparable(name: str) -> str:
    """A file name as all systems write it: macOS decomposes accents, Windows ignores case."""
    return normalize("NFC", name).casefold()


def _error(path: Path, element: Any, found: str) -> DataError:
    return DataError(f"{path}:{element.sourceline}: {found}")
