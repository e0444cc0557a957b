"""What a split of a VOC devkit holds, in numbers: what `voc-data stats` prints."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voc_cls.data.voc import CLASSES, open_devkit, scan_split

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class ClassStatistics:
    """One class. Pictures: `positive`, `only_difficult` (all their objects of it are), the rest do not show it."""

    name: str
    positive: int
    only_difficult: int
    objects: int
    difficult_objects: int
    truncated_objects: int


@dataclass(frozen=True)
class Range:
    """Smallest, median and largest value."""

    smallest: int
    median: int
    largest: int


@dataclass(frozen=True)
class Statistics:
    """One split. Sizes in pixels; `formats` counts pictures."""

    name: str
    pictures: int
    without_objects: int
    classes: tuple[ClassStatistics, ...]
    width: Range
    height: Range
    classes_per_picture: Range
    formats: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table(title=f"{self.name}: {self.pictures:,} pictures", caption=self._caption())
        columns = ("class", "positive", "only difficult", "objects", "difficult", "truncated")
        for column in columns:
            table.add_column(column, justify="left" if column == "class" else "right")
        for row in self.classes:
            table.add_row(row.name, *(f"{count:,}" for count in _counts(row)))
        table.add_section()
        totals = np.sum([_counts(row) for row in self.classes], axis=0).tolist()
        table.add_row("sum", *(f"{count:,}" for count in totals), style="bold")
        return table

    def _caption(self) -> str:
        formats = ", ".join(f"{count:,} {name}" for name, count in self.formats.items())
        sides = (f"{name} {side.smallest:,} to {side.largest:,} (median {side.median:,})"
                 for name, side in (("width", self.width), ("height", self.height)))
        per_picture = self.classes_per_picture
        return (f"positive and only difficult count pictures; only difficult: ignored, unless --difficult says else\n"
                f"{', '.join(sides)} pixels; {formats}; {self.without_objects:,} without objects\n"
                f"positive classes a picture: {per_picture.smallest} to {per_picture.largest}, "
                f"median {per_picture.median}")


def split_statistics(root: Path, split: str) -> Statistics:
    """Counts one split of the devkit `root`; DataError as `read_split`."""
    scan = scan_split(open_devkit(root), split)
    scan.check()
    objects = [item for example in scan.examples for item in example.annotation.objects]
    easy = Counter(item.name for item in objects if not item.difficult)
    difficult = Counter(item.name for item in objects if item.difficult)
    truncated = Counter(item.name for item in objects if item.truncated)
    positive, only_difficult = (scan.truth == 1).sum(axis=0).tolist(), (scan.truth == 0).sum(axis=0).tolist()
    return Statistics(
        name=scan.name,
        pictures=len(scan.examples),
        without_objects=sum(not example.annotation.objects for example in scan.examples),
        classes=tuple(
            ClassStatistics(name, positive[index], only_difficult[index], easy[name] + difficult[name],
                            difficult[name], truncated[name])
            for index, name in enumerate(CLASSES)
        ),
        width=_range([example.header.width for example in scan.examples]),
        height=_range([example.header.height for example in scan.examples]),
        classes_per_picture=_range((scan.truth == 1).sum(axis=1).tolist()),
        formats=dict(Counter(example.header.format for example in scan.examples).most_common()),
    )


def _counts(row: ClassStatistics) -> tuple[int, ...]:
    return row.positive, row.only_difficult, row.objects, row.difficult_objects, row.truncated_objects


def _range(values: list[int]) -> Range:
    return Range(min(values), round(float(np.median(values))), max(values))
