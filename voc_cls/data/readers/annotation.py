"""The annotation of one picture: a VOC XML file, read with suspicion, as frozen dataclasses.

The format: http://host.robots.ox.ac.uk/pascal/VOC/voc2007/htmldoc/, section "Annotation". Files come from strangers,
so entities, DTDs and network access are off, and size and depth are bounded. Every error names file and line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voc_cls.data.files import read_bytes
from voc_cls.errors import DataError

SIZE_LIMIT = 2**20
"""Bytes an annotation may have; the largest of VOC2012 has some 20 kB."""
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
UNSET = ("", "Unspecified")
"""What annotation tools write into a flag that nobody has set."""


@dataclass(frozen=True)
class Box:
    """Left, top, right and bottom edge in pixels, the outermost included; 1-based in VOC, fractional here and there."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


@dataclass(frozen=True)
class VocObject:
    """One annotated object. `difficult`: VOC's evaluation leaves it out. `truncated`: the box is not all of it."""

    name: str
    box: Box
    difficult: bool = False
    truncated: bool = False


@dataclass(frozen=True)
class Annotation:
    """What one XML file says: the picture's size in pixels and its objects in the order of the file."""

    width: int
    height: int
    size_line: int
    """Line of the file on which the size stands."""
    objects: tuple[VocObject, ...]


def read_annotation(path: Path, classes: Sequence[str]) -> Annotation:
    """Reads `path`, the annotation of the picture `path.stem`.

    `pose`, `truncated`, `difficult`, `segmented`, `source`, `folder`, `filename`, parts and actions may be missing.
    Raises DataError naming file and line: malformed or oversized XML, a document type declaration, an unknown class,
    a size or box that is missing, no number, empty or outside the picture, a `filename` of another picture.
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

    content = read_bytes(path, SIZE_LIMIT)
    if not content.strip():
        raise DataError(f"{path}:1: is empty; a VOC annotation starts with <annotation>")
    declaration = re.search(rb"<!(DOCTYPE|ENTITY)", content)
    if declaration:
        line = content.count(b"\n", 0, declaration.start()) + 1
        raise DataError(f"{path}:{line}: has a document type declaration, which can hide entity bombs and file "
                        f"accesses; VOC annotations have none, take it out")
    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, dtd_validation=False, attribute_defaults=False,
                             no_network=True, huge_tree=False, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        message = re.sub(r", line \d+, column \d+.*", "", " ".join(str(error.msg).split()))
        raise DataError(f"{path}:{error.lineno or 1}: malformed XML: {message}; correct or remove the file") from None
    if root.getroottree().docinfo.internalDTD is not None:  # behind an encoding that hid it from the search above
        raise DataError(f"{path}:1: has a document type declaration; VOC annotations have none, take it out")
    return root


def _object(path: Path, element: Any, classes: Sequence[str], width: int, height: int) -> VocObject:
    name = _text(path, element, "name")
    if name not in classes:
        raise _error(path, _child(path, element, "name"), f"unknown class {name!r}; known are {', '.join(classes)}")
    corners = _child(path, element, "bndbox")
    box = Box(*(_number(path, corners, edge) for edge in ("xmin", "ymin", "xmax", "ymax")))
    found = f"the box of {name!r} is {_shown(box)}"
    if box.xmin > box.xmax or box.ymin > box.ymax:
        raise _error(path, corners, f"{found}: its right or bottom edge comes before its left or top edge")
    if box.xmin < 0 or box.ymin < 0 or box.xmax > width or box.ymax > height:  # 0: tools that count from 0
        raise _error(path, corners, f"{found}, outside the picture of {width} × {height} pixels")
    return VocObject(name, box, _flag(path, element, "difficult"), _flag(path, element, "truncated"))


def _shown(box: Box) -> str:
    return f"({box.xmin:g}, {box.ymin:g}) to ({box.xmax:g}, {box.ymax:g})"


def _child(path: Path, parent: Any, tag: str) -> Any:
    """The one child `tag` of `parent`; not of its parts, which have names and boxes of their own."""
    found = parent.findall(tag)
    if not found:
        raise _error(path, parent, f"<{parent.tag}> has no <{tag}>; add it")
    if len(found) > 1:
        raise _error(path, found[1], f"a second <{tag}> in the same <{parent.tag}>; take one out")
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
