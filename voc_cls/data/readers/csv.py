"""Lists of images as CSV: `<split>.csv` in one folder, an image a line.

    path,class                path,labels,ignored          train_dog_0.csv and train_cat_0.csv:
    cats/cat.7.jpg,cat        street.jpg,car|person,bus    the split train_0, a file for each class
    dogs/dog.3.jpg,dog        empty.jpg,,

`csv_table` says which headers there are and what separates classes, `image_finder` where the images are.
The classes and their order are those of `classes.txt` in the folder, else all that occur in its CSVs of the same task,
sorted; of a file for each class, in the order of the numbers in its column `class`.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.files import check_file, read_lines
from voc_cls.data.readers import csv_table, split_scan
from voc_cls.data.readers.csv_table import BAR, CLASS, IGNORED, LABELS, PATH, Table, divided
from voc_cls.data.readers.image_finder import ImageFinder
from voc_cls.data.readers.split_scan import LabelledImage, Reader, SplitScan
from voc_cls.errors import DataError

CLASS_FILE = "classes.txt"
"""The list of the classes, one a line, in the order of the network's outputs."""
SUFFIXES = (".csv", ".tsv")
IN_SPLIT_FOLDER = "_classes.csv"
"""The list in the folder of a split, as Roboflow exports it."""
SUBMISSION = re.compile(r".*submission", re.IGNORECASE)
"""Kaggle's example of an answer, which has no labels."""
PER_CLASS = re.compile(r"(?P<split>[^_]+)_(?P<name>\D.*?)(?:_(?P<fold>\d{1,6}))?")
USAGE = "`root` takes the folder of the lists, such as train.csv and test.csv, or one of them"


@dataclass(frozen=True)
class ListFile:
    """A file of a split. `name`: the class of all its images, if it is of one class; its rows call it `code`."""

    path: Path
    name: str | None = None
    code: str = ""

    @property
    def order(self) -> tuple[int, str]:
        return int(self.code) if self.code.isdecimal() else 0, self.code


class CsvReader(Reader):
    """The splits are the names, without suffix, of the files that are lists, or named like a split."""

    kind = "csv"

    def __init__(self, roots: tuple[Path, ...]) -> None:
        super().__init__(roots)
        self._tables: dict[Path, Table] = {}

    @staticmethod
    def matches(root: Path) -> bool:
        reader = CsvReader((root,))
        try:
            return any(not reader._why_no_list(file) for files in reader._files.values() for file in files)
        except DataError:
            return False

    @cached_property
    def splits(self) -> tuple[str, ...]:
        files = self._files
        if self.root.is_file():
            return tuple(files)
        names = [name for name in files if split_scan.is_split_name(name) or not self._why_no_list(files[name][0])]
        if not files:
            raise DataError(f"{self.root}: has no file named .csv or .tsv; {USAGE}")
        if not names and (problem := self._why_no_list(next(iter(files.values()))[0])):
            raise problem
        return tuple(sorted(names, key=lambda name: [(text, int(number or 0)) for text, number in
                                                     re.findall(r"(\D*)(\d*)", name)]))  # train_2 before train_10

    def has_classes(self, split: str) -> bool:
        """False for a list of test images without classes, as competitions have them."""
        return not (split_scan.split_for("test", (split,)) and
                    isinstance(self._why_no_list(self._files[split][0]), csv_table.NoClassesError))

    def _unknown_split(self, split: str) -> DataError:
        return (split in self._files and self._why_no_list(self._files[split][0])) or super()._unknown_split(split)

    def _scan(self, split: str, *_: object) -> SplitScan:
        files = self._files[split]
        problems = [problem for file in files for problem in self._table(file.path).problems]
        if not any(self._table(file.path).images for file in files):
            nothing = f"{files[0].path}:1: has a header and no pictures; list one a line"
            raise DataError(problems[0] if problems else nothing)
        task = self._table(files[0].path).columns.task
        classes, separator, warnings = self._classes(task, files)
        usable: list[LabelledImage] = []
        for file in files:
            finder = ImageFinder(file.path.parent, split)
            for written in self._table(file.path).images:
                try:
                    shown, ignored = self._shown(written, file, classes, separator)
                    path = finder.find(str(written.path))
                    usable.append(replace(written, path=path, classes=shown, ignored=ignored))
                except DataError as error:
                    problems.append(f"{written.where}{error}")
            warnings += finder.warnings()
        return split_scan.scan_images(self._folder, split, task, classes, usable, problems, dict.fromkeys(warnings))

    @property
    def _folder(self) -> Path:
        return self.root if self.root.is_dir() else self.root.parent

    @cached_property
    def _files(self) -> dict[str, tuple[ListFile, ...]]:
        """Split → its files, whether they are lists of images or not."""
        root, paths = self.root, dict[str, Path]()
        if root.is_dir():
            for path in sorted([*root.iterdir(), *root.glob(f"*/{IN_SPLIT_FOLDER}")]):
                name = path.parent.name if path.parent != root else path.stem
                if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or SUBMISSION.match(path.name):
                    continue
                if name in paths:
                    raise DataError(f"{path}: is the split {name!r}, and so is {paths[name]}; rename or remove one")
                paths[name] = path
            return self._per_class(paths) or {name: (ListFile(path),) for name, path in paths.items()}
        if not root.exists():
            raise DataError(f"{root}: no such file or folder; {USAGE}")
        if root.suffix.lower() not in SUFFIXES:
            raise DataError(f"{root}: is neither a folder nor named .csv; {USAGE}")
        check_file(root)
        return {root.stem: (ListFile(root),)}

    def _per_class(self, paths: dict[str, Path]) -> dict[str, tuple[ListFile, ...]]:
        """The splits where some files are of one class each: their names differ in the class, and so do their rows."""
        matches = {path: match for name, path in paths.items()
                   if (match := PER_CLASS.fullmatch(name)) and split_scan.is_split_name(match["split"])}
        files = [ListFile(path, match["name"], code) for path, match in matches.items()
                 if (code := self._usual_class(path))]
        codes = {(file.name, file.code) for file in files}
        if not len(codes) == len({name for name, _ in codes}) == len({code for _, code in codes}) > 1:
            return {}
        splits: dict[str, list[ListFile]] = {name: [ListFile(path)] for name, path in paths.items()
                                             if path not in {file.path for file in files}}
        for file in sorted(files, key=lambda file: file.order):
            fold = matches[file.path]["fold"]
            splits.setdefault(matches[file.path]["split"] + (f"_{fold}" if fold else ""), []).append(file)
        return {split: tuple(members) for split, members in splits.items()}

    def _usual_class(self, path: Path) -> str | None:
        """The class of more than half of the images of a list of one class an image."""
        try:
            table = self._table(path)
        except DataError:
            return None
        counts = Counter(image.classes[0] for image in table.images if table.columns.form == "class")
        return next((name for name, count in counts.items() if 2 * count > counts.total()), None)

    @cached_property
    def _known(self) -> tuple[str, ...]:
        """The classes of the list of the classes; empty where there is none."""
        path = self._folder / CLASS_FILE
        return read_class_file(path) if os.path.lexists(path) else ()

    def _why_no_list(self, file: ListFile) -> DataError | None:
        """Why a file is not a list of images with classes; None where it is one."""
        try:
            csv_table.read_columns(file.path, self._known)
        except DataError as error:
            return error
        return None

    def _table(self, path: Path) -> Table:
        """The content of a file, which is read once."""
        if path not in self._tables:
            self._tables[path] = csv_table.read_table(path, self._known)
        return self._tables[path]

    def _classes(self, task: Task, of_split: Sequence[ListFile]) -> tuple[tuple[str, ...], str, list[str]]:
        """(all classes in their order, what separates several of them in a cell, warnings) for a split of `task`."""
        if self._known:
            if task is Task.SINGLE_LABEL:
                return self._known, BAR, []
            cells = _cells(self._table(file.path) for file in of_split)
            return self._known, *csv_table.find_separator(cells, self._known)
        files = [file for files in CsvReader((self._folder,))._files.values() for file in files
                 if not self._why_no_list(file)]
        named = tuple(dict.fromkeys(file.name for file in sorted(files, key=lambda file: file.order)
                                    if file.name and task is Task.SINGLE_LABEL))
        tables = [table for table in (self._table(file.path) for file in files if not file.name)
                  if table.columns.task is task]
        cells = _cells(tables)
        if task is Task.SINGLE_LABEL:
            separator, names, warnings = BAR, cells, csv_table.may_be_several(cells)
        else:
            separator, warnings = csv_table.find_separator(cells)
            names = {name: where for cell, where in cells.items() for name in divided(cell, separator)}
        if not any(BAR in cell for cell in cells) or task is Task.SINGLE_LABEL:
            csv_table.check_names(names)
        names |= {table.columns.names[column]: "" for table in tables if table.columns.form == "0/1"
                  for column in table.columns.classes}
        classes = (*named, *sorted(name for name in names if name not in named))
        if not classes:
            raise DataError(f"{self._folder}: no list has a class; label a picture, or list the classes in "
                            f"{CLASS_FILE}")
        return classes, separator, warnings

    def _shown(self, written: LabelledImage, file: ListFile, classes: Sequence[str], separator: str
               ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(classes, ignored classes) of an image; DataError, without the line, where they cannot be meant."""
        form, hint = self._table(file.path).columns.form, ""
        shown, ignored = written.classes, divided("".join(written.ignored), separator)
        if file.name and shown != (file.code,):
            raise DataError(f"has the class {shown[0]!r} where the others of {file.name!r} have {file.code!r}; "
                            "correct it, or move the line to the list of its class")
        if form == "class":
            shown, ignored = (file.name or shown[0],), ()
            hint = f"; every picture needs one where the header is '{PATH},{CLASS}'"
        elif form == "labels":
            shown, hint = divided(shown[0], separator), f" (classes are separated by {csv_table.SEPARATORS[separator]})"
        for name in (*shown, *ignored):
            if problem := split_scan.class_problem(name):
                raise DataError(problem + hint)
            if name not in classes:
                where = self._folder / CLASS_FILE if self._known else self._folder
                raise DataError(split_scan.unknown_class(name, classes, str(where)))
        if both := [name for name in shown if name in ignored]:
            raise DataError(f"says that {both[0]!r} is shown and ignored; choose one")
        return shown, ignored


def folds_of(root: Path) -> tuple[int, ...]:
    """The K for which there are both train_K and val_K."""
    splits = set(CsvReader((root,)).splits)
    numbers = (name.removeprefix("train_") for name in splits if re.fullmatch(r"train_(0|[1-9]\d{0,5})", name))
    return tuple(sorted(int(number) for number in numbers if f"val_{number}" in splits))


def read_class_file(path: Path) -> tuple[str, ...]:
    """The classes of `path` in its order; DataError where there is none, or one is listed twice or unusable."""
    lines: dict[str, int] = {}
    for number, name in read_lines(path):
        problem = split_scan.class_problem(name)
        if problem:
            raise DataError(f"{path}:{number}: {problem}")
        if name in lines:
            raise DataError(f"{path}:{number}: lists {name!r} again, it is on line {lines[name]} too; remove one")
        lines[name] = number
    if not lines:
        raise DataError(f"{path}:1: is empty; list the classes, one a line, or remove the file")
    return tuple(lines)


def write_list(file: Path, dataset: Dataset, name: Callable[[Path], str]) -> None:
    """Writes `dataset` as a CSV that is read back as the same; `name` returns how a path is written.

    Raises DataError where a class of a multi-label data set has a "|" in its name.
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
            classes = (BAR.join(dataset.named(cell)) for cell in marked)
            rows.writerow([name(path), *classes, *(cells[row] for cells in dataset.columns.values())])


def _cells(tables: Iterable[Table]) -> dict[str, str]:
    """What the columns of classes have → where they do first."""
    places: dict[str, str] = {}
    for image in (image for table in tables if table.columns.form != "0/1" for image in table.images):
        for cell in filter(None, (*image.classes, *image.ignored)):
            places.setdefault(cell, image.where)
    return places
