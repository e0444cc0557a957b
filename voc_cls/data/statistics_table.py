"""The numbers of `voc-data stats` as tables of at most 80 columns: one split in full, or all of them side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from voc_cls.data.dataset import Task
from voc_cls.data.statistics import ClassStatistics, Range, Statistics

PAIRS = 6
"""Pairs of classes that come together most often: what fits below a table at a glance."""
WIDEST = 6
"""Splits side by side in 80 columns; more, such as folds, stand one below the other."""
OBJECTS = ("positive", "only difficult", "objects", "difficult", "truncated")


def table(splits: Sequence[Statistics]) -> RenderableType:
    """What a person reads: counts of each class, then sizes, formats and classes that come together."""
    blocks = [splits[start:start + WIDEST] for start in range(0, len(splits), WIDEST)]
    tables = [_objects(splits[0])] if len(splits) == 1 else [_side_by_side(part) for part in blocks]
    return Group(_heading(splits), *tables, *(_sizes(part) for part in blocks), *_remarks(splits))


def _heading(splits: Sequence[Statistics]) -> Text:
    first = splits[0]
    if len(splits) == 1:
        return Text(f"{first.name}: {first.pictures:,} pictures, {first.task.value}", "bold")
    return Text(f"{first.name.removesuffix(first.split).strip()}: pictures of each class, {first.task.value}", "bold")


def _objects(split: Statistics) -> Table:
    """Everything that is known of one split's classes."""
    plain = ("pictures", "ignored")[:1 + any(row.only_difficult for row in split.classes)]
    columns: tuple[str, ...] = OBJECTS if split.has_objects else plain
    shown = Table()
    shown.add_column("class", overflow="fold")
    for column in columns:
        shown.add_column(column, justify="right")
    counts = [_counts(row)[:len(columns)] for row in split.classes]
    for row, count in zip(split.classes, counts, strict=True):
        shown.add_row(Text(row.name), *(f"{number:,}" for number in count))
    shown.add_section()
    shown.add_row("sum", *(f"{number:,}" for number in np.sum(counts, axis=0).tolist()), style="bold")
    return shown


def _side_by_side(splits: Sequence[Statistics]) -> Table:
    """Positive pictures of each class, in the order of the classes, a column for each split."""
    shown = Table()
    shown.add_column("class", overflow="fold")
    for split in splits:
        shown.add_column(split.split, justify="right", overflow="fold")
    for column, row in enumerate(splits[0].classes):
        shown.add_row(Text(row.name), *(f"{split.classes[column].positive:,}" for split in splits))
    shown.add_section()
    shown.add_row("pictures", *(f"{split.pictures:,}" for split in splits), style="bold")
    return shown


def _sizes(splits: Sequence[Statistics]) -> Table:
    """Smallest to largest and, in brackets, the median."""
    shown = Table(box=None, padding=(0, 2, 0, 0), show_header=len(splits) > 1)
    for name in ("(median)", *(split.split for split in splits)):
        shown.add_column(name, overflow="fold")
    for name, ranges in (("width", [split.width for split in splits]),
                         ("height", [split.height for split in splits]),
                         ("width/height", [split.aspect for split in splits]),
                         ("classes", [split.classes_per_picture for split in splits])):
        if name != "classes" or splits[0].task is Task.MULTI_LABEL:
            shown.add_row(name, *map(_shown, ranges))
    shown.add_row("formats", *(", ".join(f"{count:,} {name}" for name, count in split.formats.items())
                               for split in splits))
    return shown


def _remarks(splits: Sequence[Statistics]) -> Iterator[str]:
    """What the columns mean, and the pairs of classes that come together most often in the largest split."""
    largest = max(splits, key=lambda split: split.pictures)
    if len(splits) == 1 and largest.has_objects:
        yield "\npositive, only difficult: pictures; the latter are ignored, see voc-train --difficult"
    if largest.task is Task.MULTI_LABEL:
        bare = "without any object" if largest.has_objects else "of no class"
        where = f" in {largest.split}" if len(splits) > 1 else ""
        pairs = [f"{' + '.join(pair.classes)} {pair.pictures:,}" for pair in largest.together(PAIRS)]
        yield f"pictures {bare}{where}: {largest.without_objects:,}"
        yield f"most often together{where}: {', '.join(pairs) or 'none'}"


def _shown(values: Range) -> str:
    if values.smallest == values.largest:
        return f"{values.median:,}"
    return f"{values.smallest:,}–{values.largest:,} ({values.median:,})"


def _counts(row: ClassStatistics) -> tuple[int, ...]:
    return row.positive, row.only_difficult, row.objects, row.difficult_objects, row.truncated_objects
