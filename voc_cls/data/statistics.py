"""The content of a data set in numbers, as a table and as a figure: what `voc-data stats` prints and draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from voc_cls.data.dataset import Task
from voc_cls.data.figure_text import FigureText, save_figure
from voc_cls.data.load import DatasetScan
from voc_cls.data.readers.split_scan import SplitScan, raise_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIRS = 6
"""Pairs of classes that come together most often, below a table."""
MOST_SPLITS = 6
"""Side by side: in 80 columns, where more, such as folds, go into further tables, and as bars for a class."""
OBJECTS = ("positive", "only difficult", "objects", "difficult", "truncated")
PLAIN = ("pictures", "ignored")
"""Columns of a table with and without annotated objects, in the order of ClassStatistics."""
MOST_CLASSES = 40
"""Classes that are drawn, the most frequent ones; more would be illegible."""
DPI = 130
INK, FAINT, GRID = "#1c2733", "#7b8794", "#e3e8ed"
COLOURS = ("#2f6f9f", "#e0913a", "#5a9e6f", "#b3565d", "#8069a8", "#8c8c8c")
NAME_LENGTH = 26
MOST_NUMBERED = 24
"""Classes of a map of pairs that shows their numbers, too."""


@dataclass(frozen=True)
class ClassStatistics:
    """One class: images that show it, images that show only difficult objects of it (VOC), and VOC's objects."""

    name: str
    positive: int
    only_difficult: int
    objects: int = 0
    difficult_objects: int = 0
    truncated_objects: int = 0


@dataclass(frozen=True)
class Range:
    """Smallest, median and largest value."""

    smallest: float
    median: float
    largest: float

    def __str__(self) -> str:
        if self.smallest == self.largest:
            return f"{self.median:,}"
        return f"{self.smallest:,}–{self.largest:,} ({self.median:,})"


@dataclass(frozen=True)
class Statistics:
    """One split. Sizes in pixels, aspect is width / height; `formats` counts images."""

    name: str
    split: str
    task: Task
    pictures: int
    without_objects: int
    """Images of no class; in VOC, without any object, not even a difficult one."""
    classes: tuple[ClassStatistics, ...]
    width: Range
    height: Range
    aspect: Range
    classes_per_picture: Range
    formats: dict[str, int]
    co_occurrence: npt.NDArray[np.int64]
    """[classes, classes]: images that show both; on the diagonal, those that show the class."""
    sizes: npt.NDArray[np.int64]
    """[N, 2]: width and height of each image."""
    has_objects: bool
    """Whether the data set has annotated objects, as VOC."""

    def together(self, most: int) -> list[tuple[str, str, int]]:
        """The pairs of classes that come together most often: two names and the number of images that show both."""
        names = [row.name for row in self.classes]
        pairs = [(names[row], names[column], int(self.co_occurrence[row, column]))
                 for row, column in zip(*np.nonzero(np.triu(self.co_occurrence, 1)), strict=True)]
        return sorted(pairs, key=lambda pair: -pair[2])[:most]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, without the sizes of single images; single-label data sets have no pairs of classes."""
        values = asdict(self)
        del values["sizes"], values["has_objects"], values["co_occurrence"]
        pairs = {"co_occurrence": self.co_occurrence.tolist()} if self.task is Task.MULTI_LABEL else {}
        return {**values, "task": self.task.value, **pairs}


def statistics(scan: DatasetScan) -> tuple[Statistics, ...]:
    """Counts each split; DataError where something in it could not be read."""
    raise_first(scan.problems)
    return tuple(_counted(split) for split in scan.splits)


def _counted(split: SplitScan) -> Statistics:
    dataset = split.dataset
    objects = [item for items in split.objects or () for item in items]
    every = Counter(item.name for item in objects)
    difficult = Counter(item.name for item in objects if item.difficult)
    truncated = Counter(item.name for item in objects if item.truncated)
    shown = dataset.labels.astype(np.int64)
    positive, only_difficult = shown.sum(axis=0).tolist(), dataset.ignored.sum(axis=0).tolist()
    sizes = np.array([header.upright_size for header in split.headers], np.int64).reshape(-1, 2)
    bare = (sum(not items for items in split.objects) if split.objects is not None
            else int((~(dataset.labels.any(axis=1) | dataset.ignored.any(axis=1))).sum()))
    return Statistics(
        name=dataset.name,
        split=split.split,
        task=dataset.task,
        pictures=len(dataset),
        without_objects=bare,
        classes=tuple(ClassStatistics(name, positive[index], only_difficult[index], every[name], difficult[name],
                                      truncated[name]) for index, name in enumerate(dataset.classes)),
        width=_range(sizes[:, 0]),
        height=_range(sizes[:, 1]),
        aspect=_range(sizes[:, 0] / sizes[:, 1], digits=2),
        classes_per_picture=_range(shown.sum(axis=1)),
        formats=dict(Counter(header.format for header in split.headers).most_common()),
        co_occurrence=shown.T @ shown,
        sizes=sizes,
        has_objects=split.objects is not None,
    )


def _range(values: npt.NDArray[Any], digits: int | None = None) -> Range:
    return Range(*(round(float(value), digits) for value in (values.min(), np.median(values), values.max())))


def table(splits: Sequence[Statistics]) -> RenderableType:
    """A table for people: counts of each class, then sizes, formats and classes that come together."""
    first, blocks = splits[0], [splits[start:start + MOST_SPLITS] for start in range(0, len(splits), MOST_SPLITS)]
    classes = [row.name for row in first.classes]
    if len(splits) == 1:
        heading = f"{first.name}: {first.pictures:,} pictures"
        columns = OBJECTS if first.has_objects else PLAIN[:1 + any(row.only_difficult for row in first.classes)]
        counts = np.array([astuple(row)[1:] for row in first.classes]).T.tolist()
        tables = [count_table({column: (*numbers, sum(numbers)) for column, numbers in zip(columns, counts,
                               strict=False)}, classes, "sum")]
    else:
        heading = f"{_name(first)}: pictures of each class"
        tables = [count_table({split.split: (*(row.positive for row in split.classes), split.pictures)
                               for split in part}, classes) for part in blocks]
    return Group(Text(f"{heading}, {first.task.value}", "bold"), *tables, *map(_size_table, blocks),
                 *_remarks(splits))


def _name(split: Statistics) -> str:
    """The data set's."""
    return split.name.removesuffix(split.split).strip()


def count_table(columns: Mapping[str, Sequence[int | str]], classes: Sequence[str], last: str = "pictures",
                **options: Any) -> Table:
    """A row for each class, and the row `last` below them; `columns` have their numbers by what is counted."""
    shown = Table(Column("class", overflow="fold"),
                  *(Column(column, justify="right", overflow="fold") for column in columns), **options)
    for name, *numbers in zip((*classes, last), *columns.values(), strict=True):
        shown.add_row(Text(name), *(number if isinstance(number, str) else f"{number:,}" for number in numbers))
    shown.rows[-2].end_section, shown.rows[-1].style = True, "bold"
    return shown


def _size_table(splits: Sequence[Statistics]) -> Table:
    """Smallest to largest and, in brackets, the median."""
    shown = Table(*(Column(name, overflow="fold") for name in ("(median)", *(split.split for split in splits))),
                  box=None, padding=(0, 2, 0, 0), show_header=len(splits) > 1)
    rows = {"width": "width", "height": "height", "width/height": "aspect"}
    if splits[0].task is Task.MULTI_LABEL:
        rows["classes"] = "classes_per_picture"
    for name, attribute in rows.items():
        shown.add_row(name, *(str(getattr(split, attribute)) for split in splits))
    shown.add_row("formats", *(", ".join(f"{count:,} {name}" for name, count in split.formats.items())
                               for split in splits))
    return shown


def _remarks(splits: Sequence[Statistics]) -> Iterator[str]:
    """The meaning of the columns, and the pairs of classes that come together most often in the largest split."""
    largest = max(splits, key=lambda split: split.pictures)
    if len(splits) == 1 and largest.has_objects:
        yield "\npositive, only difficult: pictures; the latter are ignored, see voc-train --difficult"
    if largest.task is Task.MULTI_LABEL:
        bare = "without any object" if largest.has_objects else "of no class"
        where = f" in {largest.split}" if len(splits) > 1 else ""
        pairs = [f"{first} + {second} {count:,}" for first, second, count in largest.together(PAIRS)]
        yield f"pictures {bare}{where}: {largest.without_objects:,}"
        yield f"most often together{where}: {', '.join(pairs) or 'none'}"


def draw_statistics(path: Path, splits: Sequence[Statistics]) -> None:
    """Draws a PNG of all `splits`, written atomically; DataError where it cannot be written."""
    from matplotlib.figure import Figure

    drawn = splits[:MOST_SPLITS]
    largest = max(drawn, key=lambda split: split.pictures)
    counts = np.array([[row.positive for row in split.classes] for split in drawn])
    chosen = np.sort(np.argsort(-counts.sum(axis=0), kind="stable")[:MOST_CLASSES])
    together = largest.task is Task.MULTI_LABEL and len(chosen) > 1
    classes, every = [drawn[0].classes[column].name for column in chosen], len(drawn[0].classes)
    title = f"{_name(drawn[0])}: {' · '.join(f'{split.split} {split.pictures:,}' for split in drawn)} pictures"
    title += f" · {len(splits) - len(drawn)} more splits" if len(splits) > len(drawn) else ""
    title += f" · the {len(chosen)} most frequent of {every:,} classes" if len(chosen) < every else ""
    fitting = FigureText.of([title, *classes])
    with fitting.drawing({"font.size": 8.5, "text.color": INK, "axes.labelcolor": INK, "axes.titleweight": "bold",
                          "axes.titlesize": 10, "axes.titlelocation": "left", "axes.axisbelow": True,
                          "axes.grid": True, "grid.color": GRID, "axes.spines.top": False,
                          "axes.spines.right": False}):
        height = max(8.4 if together else 4.6, 1.5 + 0.13 * len(chosen) * (len(drawn) + 0.8))
        figure = Figure(figsize=(15.5 if together else 11, height), dpi=DPI, layout="constrained")
        axes = figure.subplots(1, 3 if together else 2, width_ratios=[1, 1.35, 1] if together else [1.1, 1])
        names = [fitting(name, NAME_LENGTH) for name in classes]
        _class_bars(axes[0], names, {split.split: row[chosen] for split, row in zip(drawn, counts, strict=True)})
        if together:
            _heat_map(axes[1], names, largest.co_occurrence[np.ix_(chosen, chosen)],
                      f", {largest.split}" if len(drawn) > 1 else "")
        _size_bubbles(axes[-1], np.concatenate([split.sizes for split in drawn]))
        figure.suptitle(fitting(title), x=0.01, ha="left", fontsize=13, fontweight="bold")
        save_figure(figure, path)


def _class_bars(axes: Axes, names: Sequence[str], counts: Mapping[str, npt.NDArray[np.int64]]) -> None:
    """`counts` by the name of a split, one for each of `names`."""
    thickness = 0.82 / len(counts)
    for number, (split, numbers) in enumerate(counts.items()):
        at = np.arange(len(names)) + (number + 0.5) * thickness - 0.41
        bars = axes.barh(at, numbers, 0.92 * thickness, color=COLOURS[number], label=split)
        axes.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=7, color=FAINT)
    axes.set_yticks(range(len(names)), names)
    axes.set(title="Pictures of each class", ylim=(len(names) - 0.4, -0.6), xmargin=0.12)
    axes.grid(visible=False, axis="y")
    if len(counts) > 1:
        axes.figure.legend(frameon=False, loc="outside lower left", ncols=len(counts))


def _heat_map(axes: Axes, names: Sequence[str], counts: npt.NDArray[np.int64], where: str) -> None:
    """Share of the row's images that also show the column's class; so rare classes are as visible as frequent ones."""
    from matplotlib.ticker import PercentFormatter

    shares = counts / np.maximum(np.diag(counts), 1)[:, None]
    np.fill_diagonal(shares, np.nan)
    most = max(0.05, np.nanmax(shares))
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=most)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    for row, column in np.argwhere(counts) if len(names) <= MOST_NUMBERED else ():
        if row != column:
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=6,
                      color="white" if shares[row, column] > 0.55 * most else INK)
    axes.grid(visible=False)
    axes.set(title=f"Classes that come together{where}", frame_on=False,
             xlabel="number: pictures that show both; colour: their share of the row's class")
    axes.figure.colorbar(picture, ax=axes, shrink=0.5, anchor=(0, 1), panchor=(0, 1), format=PercentFormatter(1, 0))


def _size_bubbles(axes: Axes, sizes: npt.NDArray[np.int64]) -> None:
    every, counts = np.unique(sizes, axis=0, return_counts=True)
    width, height = every[counts.argmax()]
    areas = 10 + 900 * counts / counts.sum()
    axes.scatter(every[:, 0], every[:, 1], s=areas, color=COLOURS[0], alpha=0.35, linewidths=0.4, edgecolors="white")
    limits = 0, 1.12 * every.max()
    axes.axline((1, 1), (2, 2), color=GRID, zorder=0)
    axes.set(title=f"Sizes; most frequent: {width:,} × {height:,}, {counts.max():,} of {counts.sum():,} pictures",
             xlim=limits, ylim=limits, box_aspect=1, anchor="N",
             xlabel="width, pixels (area of a bubble: number of pictures; line: square)", ylabel="height, pixels")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
