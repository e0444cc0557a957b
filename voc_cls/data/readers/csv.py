"""Lists of images as CSV: `<split>.csv` in one folder, an image a line.

    path,class                path,labels,ignored          train_dog_0.csv and train_cat_0.csv:
    cats/cat.7.jpg,cat        street.jpg,car|person,bus    the split train_0, a file for each class
    dogs/dog.3.jpg,dog        empty.jpg,,

`csv_table` says which headers there are, `label_separator` what separates classes, `image_finder` where the images are.
The classes and their order are those of `classes.txt` in the folder, else all that occur in its CSVs of the same task,
sorted; of a file for each class, in the order of the numbers in its column `class`.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.files import check_file, read_lines
from voc_cls.data.readers import csv_table
from voc_cls.data.readers.csv_table import CLASS, IGNORED, LABELS, PATH, NoClassesError, Table
from voc_cls.data.readers.image_finder import ImageFinder
from voc_cls.data.readers.label_separator import BAR, SEPARATORS, check_names, divided, find_separator, may_be_several
from voc_cls.data.readers.split_names import is_split_name, split_for
from voc_cls.data.readers.split_scan import LabelledImage, SplitScan, class_problem, scan_images, unknown_class
from voc_cls.errors import DataError

CLASS_FILE = "classes.txt"
"""The list of the classes, one a line, in the order of the network's outputs."""
SUFFIXES = (".csv", ".tsv")
IN_SPLIT_FOLDER = "_classes.csv"
"""The list in the folder of a split, as Roboflow exports it."""
SUBMISSION = re.compile(r".*submission", re.IGNORECASE)
"""Kaggle's example of an answer, which has no labels."""
PER_CLASS = re.compile(r"(?P<split>[^_]+)_(?P<name>\D.*?)(?:_(?P<fold>\d{1,6}))?")
FIRST_LINES = 100
"""Those that show whether a list is of one class."""
USAGE = "`root` takes the folder of the lists, such as train.csv and test.csv, or one of them"


@dataclass(frozen=True)
class ListFile:
    """A file of a split. `name`: the class of all its images, if it is of one class; its rows call it `code`."""

    path: Path
    name: str | None = None
    code: str = ""


@dataclass(frozen=True)
class Labels:
    """The classes, in their order, where they come from, and what separates several of them in a cell."""

    classes: tuple[str, ...]
    where: Path
    separator: str = BAR
    warnings: Sequence[str] = ()


def splits_of(root: Path) -> tuple[str, ...]:
    """The splits: the names, without suffix, of the files in `root` that are lists, or named like a split.

    DataError where there is none of either.
    """
    files, classes = _files(root), _known_classes(root)
    if root.is_file():
        return tuple(files)
    names = [name for name in files if is_split_name(name) or _is_list(files[name][0].path, classes)]
    if not files:
        raise DataError(f"{root}: has no file named .csv or .tsv; {USAGE}")
    if not names:
        csv_table.read_columns(next(iter(files.values()))[0].path, classes)  # raises
    return tuple(sorted(names, key=lambda name: [(text, int(number or 0)) for text, number in
                                                 re.findall(r"(\D*)(\d*)", name)]))  # train_2 before train_10


def has_classes(root: Path, split: str) -> bool:
    """False for a list of test images without classes, as competitions have them."""
    if split_for("test", (split,)):
        try:
            csv_table.read_columns(_files(root)[split][0].path, _known_classes(root))
        except NoClassesError:
            return False
        except DataError:  # reported when the split is read
            pass
    return True


def folds_of(root: Path) -> tuple[int, ...]:
    """The K for which there are both train_K and val_K."""
    splits = set(splits_of(root))
    numbers = (name.removeprefix("train_") for name in splits if re.fullmatch(r"train_(0|[1-9]\d{0,5})", name))
    return tuple(sorted(int(number) for number in numbers if f"val_{number}" in splits))


def is_csv(root: Path) -> bool:
    """Whether `root` is a list of images, or a folder with one in it."""
    try:
        return any(_is_list(file.path) for files in _files(root).values() for file in files)
    except DataError:
        return False


def scan_csv(root: Path, split: str) -> SplitScan:
    """Reads the list or lists of a split, and the headers of the images.

    Raises DataError where there is no such split, its header is not one of the forms, no line can be used, the classes
    can be read in several ways, or the list of classes is wrong.
    """
    files, known = _files(root), _known_classes(root)
    if split not in files:
        raise DataError(f"{root if root.is_file() else root / f'{split}.csv'}: there is no split {split!r}; the splits "
                        f"of {root} are: {', '.join(splits_of(root))}")
    tables = [csv_table.read_table(file.path, known) for file in files[split]]
    problems = [problem for table in tables for problem in table.problems]
    if not any(table.images for table in tables):
        nothing = f"{files[split][0].path}:1: has a header and no pictures; list one a line"
        raise DataError(problems[0] if problems else nothing)
    labels = _labels(root, dict(zip((file.path for file in files[split]), tables, strict=True)), known)
    warnings, usable = list(labels.warnings), []
    seen: dict[str, LabelledImage] = {}
    for file, table in zip(files[split], tables, strict=True):
        finder = ImageFinder(file.path.parent, split)
        for written in table.images:
            try:
                shown, ignored = _names(written, table, file, labels)
                image = replace(written, path=finder.find(str(written.path)), classes=shown, ignored=ignored)
                before = seen.setdefault(os.path.realpath(image.path), image)
                if (set(before.classes), set(before.ignored)) != (set(shown), set(ignored)):
                    raise DataError(f"lists {str(image.path)!r} again with other classes than "
                                    f"{before.where.removesuffix(': ')}; correct one of them")
                usable.append(image)
            except DataError as error:
                problems.append(f"{written.where}{error}")
        warnings += finder.warnings()
    return scan_images(_folder(root), split, tables[0].columns.task, labels.classes, usable, problems,
                       dict.fromkeys(warnings))


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
    barred = [label for label in dataset.classes if BAR in label]
    if barred and not single:
        raise DataError(f"{dataset.name}: the class {barred[0]!r} holds a {BAR!r}, which separates classes in a "
                        "CSV; rename it")
    with_ignored = bool(dataset.ignored.any())
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow([PATH, CLASS if single else LABELS, *([IGNORED] if with_ignored else []), *dataset.columns])
        for row, path in enumerate(dataset.paths):
            marked = [dataset.labels[row], *([dataset.ignored[row]] if with_ignored else [])]
            classes = (BAR.join(dataset.classes[column] for column in np.flatnonzero(cell)) for cell in marked)
            rows.writerow([name(path), *classes, *(cells[row] for cells in dataset.columns.values())])


def _folder(root: Path) -> Path:
    return root if root.is_dir() else root.parent


def _files(root: Path) -> dict[str, tuple[ListFile, ...]]:
    """Split → its files, whether they are lists of images or not."""
    if root.is_dir():
        paths: dict[str, Path] = {}
        for path in sorted([*root.iterdir(), *root.glob(f"*/{IN_SPLIT_FOLDER}")]):
            name = path.parent.name if path.parent != root else path.stem
            if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or SUBMISSION.match(path.name):
                continue
            if name in paths:
                raise DataError(f"{path}: is the split {name!r}, and so is {paths[name]}; rename or remove one")
            paths[name] = path
        return _per_class(paths) or {name: (ListFile(path),) for name, path in paths.items()}
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; {USAGE}")
    if root.suffix.lower() not in SUFFIXES:
        raise DataError(f"{root}: is neither a folder nor named .csv; {USAGE}")
    check_file(root)
    return {root.stem: (ListFile(root),)}


def _per_class(paths: dict[str, Path]) -> dict[str, tuple[ListFile, ...]]:
    """The splits where some files are of one class each: their names differ in the class, and so do their rows."""
    matches = {path: match for name, path in paths.items()
               if (match := PER_CLASS.fullmatch(name)) and is_split_name(match["split"])}
    files = [ListFile(path, match["name"], code) for path, match in matches.items() if (code := _usual_class(path))]
    codes = {(file.name, file.code) for file in files}
    if not len(codes) == len({name for name, _ in codes}) == len({code for _, code in codes}) > 1:
        return {}
    splits: dict[str, list[ListFile]] = {name: [ListFile(path)] for name, path in paths.items()
                                         if path not in {file.path for file in files}}
    for file in sorted(files, key=_by_code):
        fold = matches[file.path]["fold"]
        splits.setdefault(matches[file.path]["split"] + (f"_{fold}" if fold else ""), []).append(file)
    return {split: tuple(members) for split, members in splits.items()}


def _by_code(file: ListFile) -> tuple[int, str]:
    return int(file.code) if file.code.isdecimal() else 0, file.code


def _usual_class(path: Path) -> str | None:
    """The class of more than half of the first images of a list of one class an image."""
    try:
        table = csv_table.read_table(path, most=FIRST_LINES)
    except DataError:
        return None
    counts = Counter(image.classes[0] for image in table.images if table.columns.form == "class")
    return next((name for name, count in counts.items() if 2 * count > counts.total()), None)


def _is_list(path: Path, classes: Sequence[str] = ()) -> bool:
    """Whether a file is a list of images."""
    try:
        csv_table.read_columns(path, classes)
    except DataError:
        return False
    return True


def _known_classes(root: Path) -> tuple[str, ...]:
    """Those of the list of the classes; empty where there is none."""
    path = _folder(root) / CLASS_FILE
    return read_class_file(path) if os.path.lexists(path) else ()


def _labels(root: Path, tables: Mapping[Path, Table], known: tuple[str, ...]) -> Labels:
    """The classes of the lists of a split, `tables`, and how they are written; `known`: those that are listed."""
    folder, task = _folder(root), next(iter(tables.values())).columns.task
    if known:
        separator, warnings = find_separator(_cells(tables.values()), known) if task is Task.MULTI_LABEL else (BAR, [])
        return Labels(known, folder / CLASS_FILE, separator, warnings)
    files = [file for files in _files(folder).values() for file in files if _is_list(file.path)]
    named = tuple(dict.fromkeys(file.name for file in sorted(files, key=_by_code)
                                if file.name and task is Task.SINGLE_LABEL))
    alike = [table for table in (tables.get(file.path) or csv_table.read_table(file.path)
                                 for file in files if not file.name) if table.columns.task is task]
    cells = _cells(alike)
    if task is Task.SINGLE_LABEL:
        separator, names, warnings = BAR, cells, may_be_several(cells)
    else:
        separator, warnings = find_separator(cells)
        names = {name: where for cell, where in cells.items() for name in divided(cell, separator)}
    if not any(BAR in cell for cell in cells) or task is Task.SINGLE_LABEL:
        check_names(names)
    names |= {table.columns.names[column]: "" for table in alike if table.columns.form == "0/1"
              for column in table.columns.classes}
    classes = (*named, *sorted(name for name in names if name not in named))
    if not classes:
        raise DataError(f"{folder}: no list has a class; label a picture, or list the classes in {CLASS_FILE}")
    return Labels(classes, folder, separator, warnings)


def _cells(tables: Iterable[Table]) -> dict[str, str]:
    """What the columns of classes have → where they do first."""
    places: dict[str, str] = {}
    for image in (image for table in tables if table.columns.form != "0/1" for image in table.images):
        for cell in filter(None, (*image.classes, *image.ignored)):
            places.setdefault(cell, image.where)
    return places


def _names(written: LabelledImage, table: Table, file: ListFile, labels: Labels
           ) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(classes, ignored classes) of an image; DataError, without the line, where they cannot be meant."""
    shown, ignored, hint = written.classes, divided("".join(written.ignored), labels.separator), ""
    if file.name and shown != (file.code,):
        raise DataError(f"has the class {shown[0]!r} where the others of {file.name!r} have {file.code!r}; "
                        "correct it, or move the line to the list of its class")
    if table.columns.form == "class":
        shown, ignored = (file.name or shown[0],), ()
        hint = f"; every picture needs one where the header is '{PATH},{CLASS}'"
    elif table.columns.form == "labels":
        shown, hint = divided(shown[0], labels.separator), f" (classes are separated by {SEPARATORS[labels.separator]})"
    for name in (*shown, *ignored):
        if problem := class_problem(name):
            raise DataError(problem + hint)
        if name not in labels.classes:
            raise DataError(unknown_class(name, labels.classes, str(labels.where)))
    if both := [name for name in shown if name in ignored]:
        raise DataError(f"says that {both[0]!r} is shown and ignored; choose one")
    return shown, ignored
