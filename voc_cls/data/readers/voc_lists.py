"""The lists in ImageSets/Main: those of a split, one column of ids, and those of a class, ids and 1, 0 or -1.

Columns tell them apart, not names: train_aug.txt is a split, and a class may be called `train`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from voc_cls.data.files import read_lines
from voc_cls.errors import DataError

CLASS_LINE = re.compile(r"\S.*\s(\+?1|0|-1)")
TRUTHS = {"1": 1, "+1": 1, "0": 0, "-1": -1}
"""How a class list says positive, only difficult objects, negative."""
LINES_LOOKED_AT = 50
"""Of a list, to tell its kind."""

Resolve = Callable[[str], str | None]
"""Takes what a list has for an image; returns the image's id, None where there is no such image."""


def split_names(folder: Path, resolve: Resolve) -> tuple[str, ...]:
    """The lists in `folder` that are of splits, without .txt."""
    lists = {file.stem: _first_lines(file) for file in sorted(folder.glob("*.txt"))}
    splits = [name for name, lines in lists.items() if any(map(resolve, lines))]
    # a list of nothing known is of a class where its columns say so, or its name: CVAT leaves lists of classes empty
    return tuple(name for name, lines in lists.items() if name in splits or not (
        any(name.endswith(f"_{split}") for split in splits) or (lines and all(map(CLASS_LINE.fullmatch, lines)))))


def _first_lines(file: Path) -> list[str]:
    try:
        return [text for _, text in islice(read_lines(file), LINES_LOOKED_AT)]
    except DataError:  # told when it is read
        return []


def read_split_list(path: Path, problems: list[str], resolve: Resolve = lambda _: None) -> dict[str, int]:
    """The ids of `<split>.txt`, one a line, and their lines; blank lines, trailing spaces and CRLF are ignored.

    Ids that occur twice or cannot be the name of a file are omitted and added to `problems`. Raises DataError where
    the list cannot be read or is empty.
    """
    lines: dict[str, int] = {}
    for line, text in read_lines(path):
        resolved = resolve(text)
        image_id, problem = resolved or text, None if resolved else _id_problem(text)
        if problem is None and image_id in lines:
            problem = f"lists {text!r} again, it is on line {lines[image_id]} too; remove one"
        if problem is None:
            lines[image_id] = line
        else:
            problems.append(f"{path}:{line}: {problem}")
    if not lines and not problems:
        raise DataError(f"{path}:1: is empty; a split lists the ids of its pictures, one a line")
    return lines


def _id_problem(text: str) -> str | None:
    if CLASS_LINE.fullmatch(text):
        return f"has {text!r} where one id is expected; lists with two columns belong to a class, not to a split"
    if text.startswith("/") or "\\" in text or {".", ".."} & set(text.split("/")) or not text.isprintable():
        return f"the id {text!r} is not the plain name of a file; write it without folder and extension"
    return None


def class_list_problems(path: Path, split: Path, lines: Mapping[str, int], truths: Sequence[int],
                        resolve: Resolve = lambda _: None, complete: bool = True) -> list[str]:
    """Compares a class list with the annotations; returns a sentence for each difference.

    Images that only the class list has are ignored: a split may have been shortened.

    Args:
        path: the class list, `<class>_<split>.txt`.
        split: the list of the split.
        lines: the images of the split and their lines there.
        truths: 1, 0 or -1 for each of them, as by `ground_truth`.
        resolve: returns the id of an image.
        complete: whether the list must have all images and tell difficult ones apart, as VOC's do and CVAT's do not.
    """
    entries: dict[str, tuple[int, int]] = {}
    problems = []
    for line, text in read_lines(path):
        columns = text.rsplit(maxsplit=1)
        if not CLASS_LINE.fullmatch(text):
            problems.append(f"{path}:{line}: has {text!r} where an id and 1, 0 or -1 are expected")
            continue
        image_id = columns[0] if columns[0] in lines else resolve(columns[0]) or columns[0]
        if image_id in entries:
            problems.append(f"{path}:{line}: lists {columns[0]!r} again, it is on line {entries[image_id][1]} too; "
                            "remove one")
        else:
            entries[image_id] = TRUTHS[columns[1]], line
    for (image_id, split_line), truth in zip(lines.items(), truths, strict=True):
        if image_id not in entries:
            if complete:
                problems.append(f"{path}:1: does not list {image_id!r}, which is on line {split_line} of {split.name}; "
                                "add it, or remove the class list")
            continue
        value, line = entries[image_id]
        if value != truth and (complete or (value == -1) != (truth == -1)):
            problems.append(f"{path}:{line}: says {value} for {image_id!r}, its annotation says {truth} "
                            "(1: shown, 0: only difficult objects, -1: not shown); correct one of them")
    return problems
