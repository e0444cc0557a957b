"""One CSV of images as it stands: what separates its fields, which columns have the path and the classes, its rows.

    path,class         one class an image              image_id;label     other separators and usual names of columns
    path,labels        any number of classes           filename,cat,dog   a column of 0 and 1 for each class

In a column `labels`, "|" separates classes, or what the cells show beyond doubt: "cat,dog" may be two classes, and "Fat
Hen" is one. Where `classes.txt` lists the classes, it decides. Otherwise a cell is divided only if one of its parts
occurs in another cell too, with blanks each of them; everything else is refused.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from voc_cls.data.dataset import Task
from voc_cls.data.files import LIST_LIMIT, decode_text, read_bytes, read_text
from voc_cls.data.readers.split_scan import LabelledImage
from voc_cls.errors import DataError
from voc_cls.image_header import IMAGE_SUFFIXES

PATH, CLASS, LABELS, IGNORED = "path", "class", "labels", "ignored"
PATH_COLUMNS = (PATH, "filepath", "imagepath", "imgpath", "filename", "file", "imagefile", "imagefilename", "imagename",
                "imgname", "fname", "imageindex", "image", "img", "images", "picture", "photo", "imageid", "imgid",
                "id")
"""Names of the column of the images, in lower case without blanks, - and _; the first one that occurs counts."""
CLASS_COLUMNS = (CLASS, "label", "category", "target", "classname", "labelname", "categoryname", "breed",
                 "species", "diagnosis")
LABELS_COLUMNS = (LABELS, "classes", "categories", "tags", "targets", "findinglabels")
SPLIT_COLUMNS = ("partition", "split", "fold", "isvalid", "isvalidation", "istrain", "istest")
"""Columns of small numbers that are no classes."""
INDEX = re.compile(r"|Unnamed: \d+")
"""The name of pandas' index, which is no column."""
TRUTHS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False,
          "-1": False, "-1.0": False}
FORMS = f"'{PATH},{CLASS}', '{PATH},{LABELS}' or '{PATH}' and a column of 0 and 1 for each class"
HEADER_LIMIT = 2**16
"""Bytes of a file in which its first lines must end, for a look at what the file is."""

BAR, BLANK = "|", " "
SEPARATORS = {BAR: "bars", ";": "semicolons", ",": "commas", BLANK: "blanks"}
"""Separator → its name; the first one that occurs is the one in question."""
UNUSUAL = ("/", "+", "&")
"""These are not read, only suspected."""
ADVICE = f"separate the classes by {BAR!r}, or list them in classes.txt"


class NoClassesError(DataError):
    """A list of images without their classes, such as that of a competition's test images."""


@dataclass(frozen=True)
class Columns:
    """Which fields of a row have what; `names` are those of all columns."""

    separator: str
    names: tuple[str, ...]
    path: int
    form: Literal["class", "labels", "0/1"]
    classes: tuple[int, ...]
    """The column of the classes, or those of 0 and 1."""
    ignored: int | None = None
    header: bool = True
    """Whether the first line has the names, and not an image."""

    @property
    def task(self) -> Task:
        return Task.SINGLE_LABEL if self.form == "class" else Task.MULTI_LABEL


@dataclass(frozen=True)
class Table:
    """A file: its images as written, and a sentence for each line that has none.

    The classes of an image are the content of the column, as one text, or the names of the columns that have a 1.
    """

    columns: Columns
    images: tuple[LabelledImage, ...]
    problems: tuple[str, ...]


def read_table(file: Path, classes: Collection[str] = ()) -> Table:
    """Reads a list; its images are not looked up and its classes not checked. DataError for a wrong header or CSV.

    classes: where they are known, they are the columns that count.
    """
    columns = read_columns(file, classes)
    images, problems, values = [], [], set[str]()
    lines = csv.reader(io.StringIO(read_text(file), newline=""), delimiter=columns.separator, skipinitialspace=True,
                       strict=True)
    try:
        for fields in islice(lines, int(columns.header), None):
            if "".join(fields).strip():
                where = f"{file}:{lines.line_num}: "
                try:
                    images.append(_image(columns, fields, where))
                    values.update(fields[column].strip() for column in columns.classes if columns.form == "0/1")
                except DataError as error:
                    problems.append(f"{where}{error}")
    except csv.Error as error:
        raise DataError(f"{file}:{lines.line_num}: is not a proper CSV ({error}); put a text with a comma or a quote "
                        "between quotes, and double the quotes in it") from None
    if {"-1", "-1.0"} & values and {"0", "0.0"} & values:
        raise DataError(f"{file}:1: has -1 beside 0 in its columns of classes, so -1 may mean no or uncertain; write 0 "
                        "for no, and leave out what is uncertain")
    return Table(columns, tuple(images), tuple(problems))


def read_columns(file: Path, classes: Collection[str] = ()) -> Columns:
    """The columns of a list, by its first two lines; DataError with their names where it is not one of the forms."""
    start = decode_text(read_bytes(file, LIST_LIMIT)[:HEADER_LIMIT], errors="replace")
    failures: dict[int, DataError] = {}
    for separator in (",", ";", "\t"):
        header: list[str] = []
        try:
            lines = csv.reader(io.StringIO(start, newline=""), delimiter=separator, skipinitialspace=True)
            header, first = islice([*islice(lines, 2), [], []], 2)
            return _columns(file, separator, [name.strip() for name in header], first, classes)
        except csv.Error as error:
            failures.setdefault(0, DataError(f"{file}:1: is not a CSV ({error})"))
        except DataError as error:
            failures.setdefault(len(header), error)
    raise failures[max(failures)]


def _columns(file: Path, separator: str, header: Sequence[str], first: Sequence[str], classes: Collection[str]
             ) -> Columns:
    if not any(header):
        raise DataError(f"{file}:1: has no header; a list begins with {FORMS}")
    if len(header) == 2 and Path(header[0]).suffix.lower() in IMAGE_SUFFIXES:
        return Columns(separator, (PATH, CLASS), 0, "class", (1,), header=False)
    keys = [re.sub(r"[\W_]+", "", name).lower() for name in header]
    path = next((name for name in PATH_COLUMNS if name in keys), "")
    labels = [name for name in keys if name in (CLASS, LABELS)] or [name for name in keys if name in
                                                                    (*CLASS_COLUMNS, *LABELS_COLUMNS)]
    binary = [column for column, name in enumerate(header) if keys[column] not in (*PATH_COLUMNS, *SPLIT_COLUMNS)
              and not INDEX.fullmatch(name) and (name in classes or not classes)]
    found = f"{file}:1: has the columns {', '.join(map(repr, header))}"
    twice = [header[keys.index(name)] for name in (path, IGNORED, *labels) if name and keys.count(name) > 1]
    twice += [header[column] for column in binary if not labels and header.count(header[column]) > 1]
    if twice:
        raise DataError(f"{found}; {twice[0]!r} is allowed once")
    found += f" where {FORMS} is needed"
    if not path or len(labels) > 1:
        raise DataError(f"{found}: {' and '.join(map(repr, labels))} could both be the classes" if path
                        else f"{found}: none is named like the path of a picture")
    if labels:
        return Columns(separator, tuple(header), keys.index(path), "class" if labels[0] in CLASS_COLUMNS else "labels",
                       (keys.index(labels[0]),), keys.index(IGNORED) if IGNORED in keys else None)
    if not binary:
        raise NoClassesError(f"{found}: none has the classes")
    for column in binary:
        if column < len(first) and first[column].strip().lower() not in TRUTHS:
            raise NoClassesError(f"{found}: {header[column]!r} has {first[column]!r} on line 2, not 0 or 1")
    return Columns(separator, tuple(header), keys.index(path), "0/1", tuple(binary))


def _image(columns: Columns, fields: Sequence[str], where: str) -> LabelledImage:
    """The image of a line; DataError, without the line, where the fields cannot be used."""
    if len(fields) != len(columns.names):
        raise DataError(f"has {len(fields)} field{'s' * (len(fields) != 1)} where the header has {len(columns.names)}; "
                        "put a field with a comma between quotes, and separate classes by |")
    path, used = Path(fields[columns.path]), (columns.path, columns.ignored, *columns.classes)
    further = {name: field for column, (name, field) in enumerate(zip(columns.names, fields, strict=True))
               if column not in used and not INDEX.fullmatch(name)}
    if not fields[columns.path].strip():
        raise DataError("has an empty path; name a picture, or remove the line")
    if columns.form != "0/1":
        ignored = () if columns.ignored is None else (fields[columns.ignored].strip(),)
        return LabelledImage(path, (fields[columns.classes[0]].strip(),), ignored, where, further)
    values = {columns.names[column]: fields[column].strip().lower() for column in columns.classes}
    wrong = [name for name, value in values.items() if value not in TRUTHS]
    if wrong:
        raise DataError(f"has {values[wrong[0]]!r} in the column {wrong[0]!r}, where 0 or 1 is expected")
    return LabelledImage(path, tuple(name for name, value in values.items() if TRUTHS[value]), (), where, further)


def divided(cell: str, separator: str) -> tuple[str, ...]:
    """The parts of a cell, each once."""
    parts = cell.split() if separator == BLANK else [part.strip() for part in cell.split(separator)]
    return tuple(dict.fromkeys(parts)) if cell.strip() else ()


def find_separator(cells: Mapping[str, str], classes: Collection[str] = ()) -> tuple[str, list[str]]:
    """(the separator of a column of any number of classes, a warning where it is not a bar).

    cells: what the column has in all lists, and where it does first, such as "train.csv:3: ". classes: all that there
    are, where that is known. Raises DataError where a cell can be read in several ways.
    """
    if classes:
        unknown = {separator: sum(part not in classes for cell in cells for part in divided(cell, separator))
                   for separator in SEPARATORS}
        separator = min(unknown, key=lambda name: unknown[name])
    else:
        separator = next((separator for separator in SEPARATORS if _divisible(cells, separator)), BAR)
    examples = _divisible(cells, separator)
    if separator == BAR or not examples:
        return separator, []
    counts = Counter(part for cell in cells for part in divided(cell, separator))
    for cell, parts in examples.items():
        occurrences = sorted(counts[part] for part in parts)
        if not classes and (cell[0] in "[{(" or occurrences[0 if separator == BLANK else -1] < 2):
            raise DataError(f"{cells[cell]}has the classes {cell!r}, which may be one class or several that are "
                            f"separated by {SEPARATORS[separator]}; {ADVICE}")
    cell, parts = next(iter(examples.items()))
    return separator, [f"{cells[cell]}{cell!r} is read as {len(parts)} classes, separated by "
                       f"{SEPARATORS[separator]}, and so are the others"]


def check_names(names: Mapping[str, str]) -> None:
    """DataError for a class whose parts are all classes or numbers; `names`: class → where it is first."""
    for separator in (*SEPARATORS, *UNUSUAL):
        for name, parts in _divisible(names, separator).items():
            numbers = separator in SEPARATORS and all(map(str.isdecimal, parts))
            if numbers or names.keys() >= set(parts):
                raise DataError(f"{names[name]}has the class {name!r}, whose parts are classes or numbers; if it is "
                                f"several, name the column 'labels' and {ADVICE}")


def may_be_several(names: Mapping[str, str]) -> list[str]:
    """A warning about the first class in a column of one class that holds a separator."""
    return [f"{names[name]}{name!r} is read as one class; name the column 'labels' if it is several"
            for name in sorted(names) if re.search("[|;,]", name)][:1]


def _divisible(cells: Collection[str], separator: str) -> dict[str, tuple[str, ...]]:
    """The cells that have several parts, sorted, and these."""
    return {cell: parts for cell in sorted(cells) if len(parts := divided(cell, separator)) > 1}
