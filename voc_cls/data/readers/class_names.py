"""The names of classes: what one may look like, and which ones a mistyped one may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from voc_cls.data.files import read_lines
from voc_cls.errors import DataError

FILE = "classes.txt"
"""The list of the classes beside CSV lists, one a line, in the order of the network's outputs."""
UNWRITABLE = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
"""Control characters, line ends, and what Python makes of bytes that are no UTF-8: labels.txt has a name a line."""
SHOWN = 12
"""Classes that an error names at most; ImageNet has 1,000."""


def class_problem(name: str) -> str | None:
    """What is wrong with a class's name, None where nothing is."""
    if not name:
        return "has an empty class"
    if UNWRITABLE.search(name) or name != name.strip():
        return (f"has the class {name!r}, which begins or ends with white space or holds a control character or one "
                "that is not UTF-8; rename it")
    return None


def read_class_file(path: Path) -> tuple[str, ...]:
    """The classes of `path` in its order; DataError names file and line: none, one twice, an unusable name."""
    lines: dict[str, int] = {}
    for number, name in read_lines(path):
        problem = class_problem(name)
        if problem:
            raise DataError(f"{path}:{number}: {problem}")
        if name in lines:
            raise DataError(f"{path}:{number}: lists {name!r} again, it stands on line {lines[name]} too; take one out")
        lines[name] = number
    if not lines:
        raise DataError(f"{path}:1: is empty; list the classes, one a line, or remove the file")
    return tuple(lines)


def unknown_class(name: str, classes: Sequence[str], where: str) -> str:
    """What is said of a class that is not among `classes`, the list `where`; names those that look like it."""
    near = difflib.get_close_matches(name, classes, 3)
    shown = ", ".join(classes[:SHOWN]) + (", …" if len(classes) > SHOWN else "")
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {shown}"
    return f"unknown class {name!r}, it is not in {where}; {hint}"
