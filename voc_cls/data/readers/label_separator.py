"""What separates the classes in a column `labels`: "|", or what the cells themselves show beyond doubt.

"cat,dog" may be two classes, and "Fat Hen" is one. Where `classes.txt` lists the classes, it decides. Otherwise a cell
is divided only if one of its parts occurs in another cell too, with blanks each of them; everything else is refused.

`cells` are what the column has and where it does first, such as "train.csv:3: ", in all lists with the same classes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping

from voc_cls.errors import DataError

BAR, BLANK = "|", " "
SEPARATORS = {BAR: "bars", ";": "semicolons", ",": "commas", BLANK: "blanks"}
"""Separator → its name; the first one that occurs is the one in question."""
UNUSUAL = ("/", "+", "&")
"""These are not read, only suspected."""
ADVICE = f"separate the classes by {BAR!r}, or list them in classes.txt"


def divided(cell: str, separator: str) -> tuple[str, ...]:
    """The parts of a cell, each once."""
    parts = cell.split() if separator == BLANK else [part.strip() for part in cell.split(separator)]
    return tuple(dict.fromkeys(parts)) if cell.strip() else ()


def find_separator(cells: Mapping[str, str], classes: Collection[str] = ()) -> tuple[str, list[str]]:
    """(the separator of a column of any number of classes, a warning where it is not a bar).

    classes: all that there are, where that is known. Raises DataError where a cell can be read in several ways.
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
