"""Lists of images as CSV: `<split>.csv` in one folder, an image a line.

    path,class                path,labels,ignored
    cats/cat.7.jpg,cat        street.jpg,car|person,bus
    dogs/dog.3.jpg,dog        empty.jpg,,

The header decides. `class`: every image belongs to exactly one class. `labels`: to any number of them, separated by
"|"; the optional `ignored` has classes for which the image counts neither way. Other columns are ignored. Paths are
absolute or relative to the folder of the CSV. The classes and their order are those of `classes.txt` in the folder,
else all that occur in its CSVs with the same kind of header, sorted.
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
from voc_cls.data.files import check_file, read_lines, read_text
from voc_cls.data.readers.split_scan import LabelledImage, SplitScan, class_problem, scan_images, unknown_class
from voc_cls.errors import DataError

SEPARATOR = "|"
PATH, CLASS, LABELS, IGNORED = "path", "class", "labels", "ignored"
CLASS_FILE = "classes.txt"
"""The list of the classes, one a line, in the order of the network's outputs."""
FORMS = f"'{PATH},{CLASS}' or '{PATH},{LABELS}'"
HEADER_LIMIT = 2**16
"""Bytes of a file in which its header must end, for a look at what the file is."""
USAGE = "`root` takes the folder of the lists, such as train.csv and test.csv, or one of them"


@dataclass(frozen=True)
class ImageList:
    """One CSV: its images, and what is wrong with its lines, a sentence each."""

    task: Task
    images: tuple[LabelledImage, ...]
    problems: tuple[str, ...]

    def classes(self) -> set[str]:
        """All that occur."""
        return {name for image in self.images for name in (*image.classes, *image.ignored)}


def splits_of(root: Path) -> tuple[str, ...]:
    """The splits: the names, without .csv, of the files in `root` with a header as above; of a file, its own."""
    folder, alone = _place(root)
    if alone:
        return (alone,)
    names = [path.stem for path in folder.glob("*.csv") if _task(path) is not None]
    return tuple(sorted(names, key=lambda name: [(text, int(number or 0)) for text, number in
                                                 re.findall(r"(\D*)(\d*)", name)]))  # train_2 before train_10


def folds_of(root: Path) -> tuple[int, ...]:
    """The K for which there are both train_K and val_K."""
    splits = set(splits_of(root))
    numbers = (name.removeprefix("train_") for name in splits if re.fullmatch(r"train_[1-9]\d{0,5}", name))
    return tuple(sorted(int(number) for number in numbers if f"val_{number}" in splits))


def is_csv(root: Path) -> bool:
    """Whether `root` is a list of images, or a folder with one in it."""
    return _task(root) is not None if root.is_file() else any(_task(path) is not None for path in root.glob("*.csv"))


def scan_csv(root: Path, split: str) -> SplitScan:
    """Reads `<split>.csv` of the folder `root`, or `root` itself, and the headers of the images.

    Raises DataError where there is no such split, its header is not one of the forms, no line can be used, or the list
    of classes is wrong.
    """
    folder, alone = _place(root)
    file = root if alone else folder / f"{split}.csv"
    if (alone and alone != split) or not file.is_file():
        raise DataError(f"{file}: there is no split {split!r}; the splits of {root} are: {_listed(splits_of(root))}")
    image_list = read_list(file)
    if not image_list.images:
        nothing = f"{file}:1: has a header and no pictures; list one a line"
        raise DataError(image_list.problems[0] if image_list.problems else nothing)
    classes, where = _classes(folder, image_list.task)
    problems, usable = list(image_list.problems), []
    for image in image_list.images:
        unknown = [name for name in (*image.classes, *image.ignored) if name not in classes]
        problems += [image.where + unknown_class(name, classes, str(where)) for name in unknown]
        usable += [] if unknown else [image]
    return scan_images(folder, split, image_list.task, classes, usable, problems)


def read_list(file: Path) -> ImageList:
    """The lines of one CSV; neither the classes nor the images are checked yet. DataError for a wrong header."""
    rows = csv.reader(io.StringIO(read_text(file), newline=""), strict=True)
    images: list[LabelledImage] = []
    problems: list[str] = []
    seen: dict[str, tuple[int, LabelledImage]] = {}
    try:
        header = [name.strip() for name in next(rows, [])]
        task = _checked_task(file, header)
        for row in rows:
            if len(row) <= 1 and not "".join(row).strip():
                continue
            line = f"{file}:{rows.line_num}: "
            image = _image(file.parent, line, header, row, task)
            if isinstance(image, LabelledImage):
                real = os.path.realpath(image.path)
                number, before = seen.setdefault(real, (rows.line_num, image))
                if (set(before.classes), set(before.ignored)) == (set(image.classes), set(image.ignored)):
                    images.append(image)
                    continue
                image = f"lists {str(image.path)!r} again with other classes than on line {number}; correct one of them"
            problems.append(line + image)
    except csv.Error as error:
        raise DataError(f"{file}:{rows.line_num}: is not a proper CSV ({error}); put a text with a comma or a quote "
                        "between quotes, and double the quotes in it") from None
    return ImageList(task, tuple(images), tuple(problems))


def read_class_file(path: Path) -> tuple[str, ...]:
    """The classes of `path` in its order; DataError where there is none, or one is listed twice or unusable."""
    lines: dict[str, int] = {}
    for number, name in read_lines(path):
        problem = class_problem(name)
        if problem:
            raise DataError(f"{path}:{number}: {problem}")
        if name in lines:
            raise DataError(f"{path}:{number}: lists {name!r} again, it is on line {lines[name]} too; remove one")
        lines[name] = number
    if not lines:
        raise DataError(f"{path}:1: is empty; list the classes, one a line, or remove the file")
    return tuple(lines)


def write_list(file: Path, dataset: Dataset, name: Callable[[Path], str]) -> None:
    """Writes `dataset` as a CSV that is read back as the same.

    Args:
        file: the CSV to write.
        dataset: what it lists.
        name: returns how a path is written, such as relative to the list.

    Raises:
        DataError: a class of a multi-label data set has a "|" in its name.
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
    if os.path.lexists(folder / CLASS_FILE):
        return read_class_file(folder / CLASS_FILE), folder / CLASS_FILE
    lists = (read_list(path) for path in sorted(folder.glob("*.csv")) if _task(path) is task)
    classes = tuple(sorted(set().union(*(found.classes() for found in lists))))
    if not classes:
        raise DataError(f"{folder}: no list has a class; label a picture, or list the classes in {CLASS_FILE}")
    return classes, folder


def _image(folder: Path, line: str, header: list[str], row: list[str], task: Task) -> LabelledImage | str:
    """The image of a row, or what is wrong with the row."""
    if len(row) != len(header):
        return (f"has {len(row)} field{'s' * (len(row) != 1)} where the header has {len(header)}; put a path with a "
                "comma between quotes")
    cells = dict(zip(header, row, strict=True))
    if not cells[PATH]:
        return "has an empty path; name a picture, or remove the line"
    path = folder / cells[PATH]
    if task is Task.SINGLE_LABEL:
        name = cells[CLASS].strip()
        problem = class_problem(name)
        return f"{problem}; every picture needs one where the header is '{PATH},{CLASS}'" if problem else LabelledImage(
            path, (name,), where=line)
    labels, ignored = _names(cells[LABELS]), _names(cells.get(IGNORED, ""))
    for name in (*labels, *ignored):
        if problem := class_problem(name):
            return f"{problem} (classes are separated by one {SEPARATOR!r})"
    both = [name for name in labels if name in ignored]
    if both:
        return f"says that {both[0]!r} is shown and ignored; choose one"
    return LabelledImage(path, labels, ignored, line)


def _names(cell: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in cell.split(SEPARATOR))) if cell.strip() else ()


def _task(file: Path) -> Task | None:
    """The task according to the header of a file; None where the file is not a list of images."""
    try:
        check_file(file)
        with file.open("rb") as content:
            start = content.readline(HEADER_LIMIT).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
        return _checked_task(file, [name.strip() for name in next(csv.reader(io.StringIO(start, newline="")), [])])
    except (DataError, OSError, csv.Error):
        return None


def _checked_task(file: Path, header: list[str]) -> Task:
    """The task according to the columns; DataError where they are not one of the forms."""
    found = f"{file}:1: has the columns {_listed(repr(name) for name in header)}"
    twice = [name for name in (PATH, CLASS, LABELS, IGNORED) if header.count(name) > 1]
    if twice:
        raise DataError(f"{found}; {twice[0]!r} is allowed once")
    if not any(header):
        raise DataError(f"{file}:1: has no header; a list begins with {FORMS}")
    if PATH not in header or (CLASS in header) == (LABELS in header):
        hint = ": save it with commas" if len(header) == 1 and re.search(r"[;\t]", header[0]) else ""
        raise DataError(f"{found} where {FORMS} is needed{hint}")
    return Task.SINGLE_LABEL if CLASS in header else Task.MULTI_LABEL


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
