"""The lists under ImageSets/Main: `<split>.txt` names pictures, `<class>_<split>.txt` says what each one shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voc_cls.data.files import read_lines
from voc_cls.errors import DataError

TRUTHS = {"1": 1, "0": 0, "-1": -1}
"""How a class list says positive, only difficult objects, negative."""


@dataclass(frozen=True)
class Listed:
    """A picture's id and the line of the list that names it."""

    id: str
    line: int


@dataclass(frozen=True)
class SplitList:
    """The pictures of a split in the order of its list, and what is wrong with the list, one sentence each."""

    listed: tuple[Listed, ...]
    problems: tuple[str, ...]


def read_split_list(path: Path) -> SplitList:
    """Reads `<split>.txt`: one id a line; blank lines, trailing spaces and CRLF do not matter.

    Raises DataError when the list cannot be read or is empty. Ids that occur twice or cannot be the name of a file
    are left out and told among the problems.
    """
    lines: dict[str, int] = {}
    problems = []
    for line, text in read_lines(path):
        problem = _id_problem(text)
        if problem:
            problems.append(f"{path}:{line}: {problem}")
        elif text in lines:
            problems.append(f"{path}:{line}: lists {text!r} again, it stands on line {lines[text]} too; take one out")
        else:
            lines[text] = line
    if not lines and not problems:
        raise DataError(f"{path}:1: is empty; a split lists the ids of its pictures, one a line")
    return SplitList(tuple(Listed(*item) for item in lines.items()), tuple(problems))


def _id_problem(text: str) -> str | None:
    if len(text.split()) > 1:
        return f"has {text!r} where one id is expected; lists with two columns belong to a class, not to a split"
    if "/" in text or "\\" in text or text in (".", "..") or not text.isprintable():
        return f"the id {text!r} is not the plain name of a file; write it without folder and extension"
    return None


def class_list_problems(path: Path, split: Path, listed: Sequence[Listed], truths: Sequence[int]) -> list[str]:
    """What in the class list `path` disagrees with the annotations: `truths`, 1, 0 or -1 for each of `listed`.

    Pictures that only the class list has do not matter: a split may have been shortened.
    """
    said: dict[str, tuple[int, int]] = {}
    problems = []
    for line, text in read_lines(path):
        columns = text.split()
        if len(columns) != 2 or columns[1] not in TRUTHS:
            problems.append(f"{path}:{line}: has {text!r} where an id and 1, 0 or -1 are expected")
        elif columns[0] in said:
            problems.append(f"{path}:{line}: lists {columns[0]!r} again, it stands on line {said[columns[0]][1]} too; "
                            f"take one out")
        else:
            said[columns[0]] = TRUTHS[columns[1]], line
    for picture, truth in zip(listed, truths, strict=True):
        if picture.id not in said:
            problems.append(f"{path}:1: does not list {picture.id!r}, which is on line {picture.line} of {split.name}; "
                            f"add it, or remove the class list")
        elif said[picture.id][0] != truth:
            value, line = said[picture.id]
            problems.append(f"{path}:{line}: says {value} for {picture.id!r}, its annotation says {truth} "
                            f"(1: shown, 0: only difficult objects, -1: not shown); correct one of them")
    return problems
