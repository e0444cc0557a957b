"""Lists of pictures as CSV: `<split>.csv` in one folder, a picture a line, for any pictures with any classes.

    path,class                path,labels,ignored
    cats/cat.7.jpg,cat        street.jpg,car|person,bus
    dogs/dog.3.jpg,dog        empty.jpg,,

The header decides. `class`: every picture is of exactly one class. `labels`: of any number of them, separated by "|";
`ignored`, which may be missing, has classes for which the picture counts neither way. Other columns do not matter.
Paths are absolute or relative to the folder of the CSV. The classes and their order are those of `classes.txt` in the
folder, else all that occur in its CSVs with the same kind of header, sorted.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.files import LIST_LIMIT, check_file, read_bytes
from voc_cls.data.readers.class_names import FILE, class_problem, read_class_file, unknown_class
from voc_cls.data.readers.split_scan import Labelled, Scanned, scanned
from voc_cls.errors import DataError

SEPARATOR = "|"
PATH, CLASS, LABELS, IGNORED = "path", "class", "labels", "ignored"
FORMS = f"'{PATH},{CLASS}' or '{PATH},{LABELS}'"
HEADER_LIMIT = 2**16
"""Bytes of a file in which its header must end, for a look at what the file is."""
USAGE = "--root takes the folder of the lists, such as train.csv and test.csv, or one of them"


@dataclass(frozen=True)
class PictureList:
    """One CSV: its pictures, and what is wrong with its lines, a sentence each."""

    task: Task
    pictures: tuple[Labelled, ...]
    problems: tuple[str, ...]

    def classes(self) -> set[str]:
        """All that occur."""
        return {name for picture in self.pictures for name in (*picture.classes, *picture.ignored)}


def splits_of(root: Path) -> tuple[str, ...]:
    """The splits: the names, without .csv, of the files in `root` with a header as above; of a file, its own."""
    folder, alone = _place(root)
    if alone:
        return (alone,)
    found = [path.stem for path in folder.glob("*.csv") if _task(path) is not None]
    return tuple(sorted(found, key=lambda name: [(text, int(number or 0)) for text, number in
                                                 re.findall(r"(\D*)(\d*)", name)]))  # train_2 before train_10


def folds_of(root: Path) -> tuple[int, ...]:
    """The K for which there are both train_K and val_K."""
    splits = set(splits_of(root))
    numbers = (name.removeprefix("train_") for name in splits if re.fullmatch(r"train_[1-9]\d{0,5}", name))
    return tuple(sorted(int(number) for number in numbers if f"val_{number}" in splits))


def scan_csv(root: Path, split: str) -> Scanned:
    """Reads `<split>.csv` of the folder `root`, or `root` itself, and the pictures' headers.

    Raises DataError where there is no such split, its header names no form, no line is in order, or the list of classes
    is wrong.
    """
    folder, alone = _place(root)
    file = root if alone else folder / f"{split}.csv"
    if (alone and alone != split) or not file.is_file():
        raise DataError(f"{file}: there is no split {split!r}; the splits of {root} are: {_listed(splits_of(root))}")
    found = read_list(file)
    if not found.pictures:
        nothing = f"{file}:1: has a header and no pictures; list one a line"
        raise DataError(found.problems[0] if found.problems else nothing)
    classes, where = _classes(folder, found.task)
    problems, known = list(found.problems), []
    for picture in found.pictures:
        unknown = [name for name in (*picture.classes, *picture.ignored) if name not in classes]
        problems += [picture.where + unknown_class(name, classes, str(where)) for name in unknown]
        known += [] if unknown else [picture]
    return scanned(f"{folder.resolve().name} {split}", found.task, classes, known, problems)


def read_list(file: Path) -> PictureList:
    """The lines of one CSV, before its classes are known and its pictures looked at; DataError for a wrong header."""
    rows = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    pictures: list[Labelled] = []
    problems: list[str] = []
    seen: dict[str, tuple[int, Labelled]] = {}
    try:
        header = [name.strip() for name in next(rows, [])]
        task = _checked_task(file, header)
        for row in rows:
            if len(row) <= 1 and not "".join(row).strip():
                continue
            line = f"{file}:{rows.line_num}: "
            picture = _picture(file.parent, line, header, row, task)
            if isinstance(picture, Labelled):
                real = os.path.realpath(picture.path)
                number, before = seen.setdefault(real, (rows.line_num, picture))
                if (set(before.classes), set(before.ignored)) == (set(picture.classes), set(picture.ignored)):
                    pictures.append(picture)
                    continue
                picture = (f"lists {str(picture.path)!r} again with other classes than on line {number}; correct one "
                           "of them")
            problems.append(line + picture)
    except csv.Error as error:
        raise DataError(f"{file}:{rows.line_num}: is no proper CSV ({error}); put a text with a comma or a quote "
                        "between quotes, and double the quotes in it") from None
    return PictureList(task, tuple(pictures), tuple(problems))


def write_list(file: Path, dataset: Dataset, name: Callable[[Path], str]) -> None:
    """Writes `dataset` as a CSV that is read back as the same; `name` says how a path is written.

    Raises DataError for what a CSV cannot hold: a class with a "|" in it where pictures have several.
    """
    single = dataset.task is Task.SINGLE_LABEL
    barred = [label for label in dataset.classes if SEPARATOR in label]
    if barred and not single:
        raise DataError(f"{dataset.name}: the class {barred[0]!r} holds a {SEPARATOR!r}, which separates classes in a "
                        "CSV; rename it")
    with_ignored = bool(dataset.ignored.any())
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow([PATH, CLASS if single else LABELS, *([IGNORED] if with_ignored else [])])
        for path, labels, ignored in zip(dataset.paths, dataset.labels, dataset.ignored, strict=True):
            cells = [np.flatnonzero(labels), *([np.flatnonzero(ignored)] if with_ignored else [])]
            rows.writerow([name(path), *(SEPARATOR.join(dataset.classes[column] for column in cell) for cell in cells)])


def _place(root: Path) -> tuple[Path, str | None]:
    """(folder of the lists, the split where `root` is a single list)."""
    if root.is_dir():
        return root, None
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; {USAGE}")
    if root.suffix != ".csv":
        raise DataError(f"{root}: is neither a folder nor named .csv; {USAGE}")
    check_file(root)
    return root.parent, root.stem


def _classes(folder: Path, task: Task) -> tuple[tuple[str, ...], Path]:
    """(all classes, where they are listed)."""
    if os.path.lexists(folder / FILE):
        return read_class_file(folder / FILE), folder / FILE
    lists = (read_list(path) for path in sorted(folder.glob("*.csv")) if _task(path) is task)
    classes = tuple(sorted(set().union(*(found.classes() for found in lists))))
    if not classes:
        raise DataError(f"{folder}: no list has a class; label a picture, or list the classes in {FILE}, one a line")
    return classes, folder


def _picture(folder: Path, line: str, header: list[str], row: list[str], task: Task) -> Labelled | str:
    """What a row says, or what is wrong with it."""
    if len(row) != len(header):
        return (f"has {len(row)} field{'s' * (len(row) != 1)} where the header has {len(header)}; put a path with a "
                "comma between quotes")
    cells = dict(zip(header, row, strict=True))
    if not cells[PATH]:
        return "has an empty path; name a picture, or take the line out"
    path = folder / cells[PATH]
    if task is Task.SINGLE_LABEL:
        name = cells[CLASS].strip()
        problem = class_problem(name)
        return f"{problem}; every picture needs one where the header is '{PATH},{CLASS}'" if problem else Labelled(
            path, (name,), where=line)
    labels, ignored = _names(cells[LABELS]), _names(cells.get(IGNORED, ""))
    for name in (*labels, *ignored):
        if problem := class_problem(name):
            return f"{problem} (classes are separated by one {SEPARATOR!r})"
    both = [name for name in labels if name in ignored]
    return f"says that {both[0]!r} is shown and ignored; choose one" if both else Labelled(path, labels, ignored, line)


def _names(cell: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in cell.split(SEPARATOR))) if cell.strip() else ()


def _task(file: Path) -> Task | None:
    """What the header of a file says; None where it is no list of pictures, whatever it is."""
    try:
        check_file(file)
        with file.open("rb") as content:
            start = content.readline(HEADER_LIMIT).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
        return _checked_task(file, [name.strip() for name in next(csv.reader(io.StringIO(start, newline="")), [])])
    except (DataError, OSError, csv.Error):
        return None


def _checked_task(file: Path, header: list[str]) -> Task:
    """What the columns say; DataError where they say nothing."""
    found = f"{file}:1: has the columns {_listed(repr(name) for name in header)}"
    twice = [name for name in (PATH, CLASS, LABELS, IGNORED) if header.count(name) > 1]
    if twice:
        raise DataError(f"{found}; {twice[0]!r} may be there once")
    if not any(header):
        raise DataError(f"{file}:1: has no header; a list begins with {FORMS}")
    if PATH not in header or (CLASS in header) == (LABELS in header):
        hint = ": save it with commas" if len(header) == 1 and re.search(r"[;\t]", header[0]) else ""
        raise DataError(f"{found} where {FORMS} is needed{hint}")
    return Task.SINGLE_LABEL if CLASS in header else Task.MULTI_LABEL


def _text(file: Path) -> str:
    """The content; DataError names line and byte of what is not UTF-8."""
    content = read_bytes(file, LIST_LIMIT)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{file}:1: is UTF-16; save the list as UTF-8")
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode("utf-8")
        position = content.find(b"\0")
    except UnicodeDecodeError as error:
        position = error.start
    if position >= 0:
        line = content.count(b"\n", 0, position) + 1
        raise DataError(f"{file}:{line}: holds the byte 0x{content[position]:02x}, which "
                        "is no text in UTF-8; save the list as UTF-8")
    return text


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
