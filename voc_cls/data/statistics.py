"""The content of a data set in numbers, as a table and as a figure: what `voc-data stats` prints and draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from voc_cls.data.dataset import Task
from voc_cls.data.readers.split_scan import SplitScan
from voc_cls.data.scan import DatasetScan
from voc_cls.errors import DataError
from voc_cls.files import write_aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIRS = 6
"""Pairs of classes that come together most often, below a table."""
WIDEST = 6
"""Splits side by side in 80 columns; more, such as folds, go into further tables."""
OBJECTS = ("positive", "only difficult", "objects", "difficult", "truncated")
MOST_CLASSES = 40
"""Classes that are drawn, the most frequent ones; more would be illegible."""
MOST_SPLITS = 6
"""Bars side by side for a class; more, such as folds, would be illegible."""
DPI = 130
INK, FAINT, GRID = "#1c2733", "#7b8794", "#e3e8ed"
COLOURS = ("#2f6f9f", "#e0913a", "#5a9e6f", "#b3565d", "#8069a8", "#8c8c8c")
NAME_LENGTH = 26


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


@dataclass(frozen=True)
class Together:
    """Two classes and the number of images that show both."""

    classes: tuple[str, str]
    pictures: int


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

    def together(self, most: int) -> tuple[Together, ...]:
        """The pairs of classes that come together most often."""
        rows, columns = np.triu_indices(len(self.classes), 1)
        counts = self.co_occurrence[rows, columns]
        first = [index for index in np.argsort(-counts, kind="stable")[:most] if counts[index]]
        return tuple(Together((self.classes[rows[index]].name, self.classes[columns[index]].name), int(counts[index]))
                     for index in first)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, without the sizes of single images; single-label data sets have no pairs of classes."""
        values = asdict(self)
        del values["sizes"], values["has_objects"], values["co_occurrence"]
        pairs = {"co_occurrence": self.co_occurrence.tolist()} if self.task is Task.MULTI_LABEL else {}
        return {**values, "task": self.task.value, **pairs}


def statistics(scan: DatasetScan) -> tuple[Statistics, ...]:
    """Counts each split; DataError where something in it could not be read."""
    scan.check()
    return tuple(_counted(split) for split in scan.splits)


def _counted(split: SplitScan) -> Statistics:
    dataset = split.dataset
    objects = [item for items in split.objects or () for item in items]
    every = Counter(item.name for item in objects)
    difficult = Counter(item.name for item in objects if item.difficult)
    truncated = Counter(item.name for item in objects if item.truncated)
    shown = dataset.labels.astype(np.int64)
    positive, only_difficult = shown.sum(axis=0).tolist(), dataset.ignored.sum(axis=0).tolist()
    sizes = np.array([(header.width, header.height) for header in split.headers], np.int64).reshape(-1, 2)
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
    blocks = [splits[start:start + WIDEST] for start in range(0, len(splits), WIDEST)]
    tables = [_class_table(splits[0])] if len(splits) == 1 else [_side_by_side(part) for part in blocks]
    return Group(_heading(splits), *tables, *(_size_table(part) for part in blocks), *_remarks(splits))


def _heading(splits: Sequence[Statistics]) -> Text:
    first = splits[0]
    if len(splits) == 1:
        return Text(f"{first.name}: {first.pictures:,} pictures, {first.task.value}", "bold")
    return Text(f"{first.name.removesuffix(first.split).strip()}: pictures of each class, {first.task.value}", "bold")


def _class_table(split: Statistics) -> Table:
    """All counts of one split's classes."""
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


def _size_table(splits: Sequence[Statistics]) -> Table:
    """Smallest to largest and, in brackets, the median."""
    shown = Table(box=None, padding=(0, 2, 0, 0), show_header=len(splits) > 1)
    for name in ("(median)", *(split.split for split in splits)):
        shown.add_column(name, overflow="fold")
    for name, ranges in (("width", [split.width for split in splits]),
                         ("height", [split.height for split in splits]),
                         ("width/height", [split.aspect for split in splits]),
                         ("classes", [split.classes_per_picture for split in splits])):
        if name != "classes" or splits[0].task is Task.MULTI_LABEL:
            shown.add_row(name, *map(_range_text, ranges))
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
        pairs = [f"{' + '.join(pair.classes)} {pair.pictures:,}" for pair in largest.together(PAIRS)]
        yield f"pictures {bare}{where}: {largest.without_objects:,}"
        yield f"most often together{where}: {', '.join(pairs) or 'none'}"


def _range_text(values: Range) -> str:
    if values.smallest == values.largest:
        return f"{values.median:,}"
    return f"{values.smallest:,}–{values.largest:,} ({values.median:,})"


def _counts(row: ClassStatistics) -> tuple[int, ...]:
    return row.positive, row.only_difficult, row.objects, row.difficult_objects, row.truncated_objects


def draw_statistics(path: Path, splits: Sequence[Statistics]) -> None:
    """Draws a PNG of all `splits`, written atomically; DataError where it cannot be written."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = splits[:MOST_SPLITS]
    largest = max(drawn, key=lambda split: split.pictures)
    counts = np.array([[row.positive for row in split.classes] for split in drawn])
    chosen = np.sort(np.argsort(-counts.sum(axis=0), kind="stable")[:MOST_CLASSES])
    together = largest.task is Task.MULTI_LABEL and len(chosen) > 1
    with rc_context({"font.family": "sans-serif", "font.size": 8.5, "text.color": INK, "axes.edgecolor": FAINT,
                     "axes.labelcolor": INK, "xtick.color": FAINT, "ytick.color": INK, "axes.titlesize": 10,
                     "axes.titleweight": "bold", "axes.titlelocation": "left", "text.parse_math": False}):
        height = max(8.4 if together else 4.6, 1.5 + 0.13 * len(chosen) * (len(drawn) + 0.8))
        figure = Figure(figsize=(15.5 if together else 11, height), dpi=DPI, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, 3 if together else 2, width_ratios=[1, 1.35, 1] if together else [1.1, 1])
        _class_bars(axes[0], drawn, chosen)
        if together:
            _heat_map(axes[1], largest, chosen, named=len(drawn) > 1)
        _size_bubbles(axes[-1], drawn)
        figure.suptitle(_title(drawn, splits, len(chosen)), x=0.01, ha="left", fontsize=13, fontweight="bold")
        try:
            write_aside(path, lambda aside: figure.savefig(aside, format="png"))
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); choose another file") from None


def _title(drawn: Sequence[Statistics], splits: Sequence[Statistics], classes: int) -> str:
    parts = " · ".join(f"{split.split} {split.pictures:,}" for split in drawn)
    name = drawn[0].name.removesuffix(drawn[0].split).strip()
    left_out = f" · {len(splits) - len(drawn)} more splits" if len(splits) > len(drawn) else ""
    every = len(drawn[0].classes)
    of = f" · the {classes} most frequent of {every:,} classes" if classes < every else ""
    return f"{name}: {parts} pictures{left_out}{of}"


def _class_bars(axes: Axes, splits: Sequence[Statistics], chosen: Any) -> None:
    thickness = 0.82 / len(splits)
    for number, split in enumerate(splits):
        at = np.arange(len(chosen)) - 0.41 + (number + 0.5) * thickness
        counts = [split.classes[column].positive for column in chosen]
        bars = axes.barh(at, counts, thickness * 0.92, color=COLOURS[number], label=split.split)
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=2, fontsize=7, color=FAINT)
    axes.set_yticks(range(len(chosen)), [_short(splits[0].classes[column].name) for column in chosen])
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.set_title("Pictures of each class")
    _quiet(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    if len(splits) > 1:
        axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.99), ncols=len(splits),
                    borderaxespad=0, handlelength=1, columnspacing=1)


def _heat_map(axes: Axes, split: Statistics, chosen: Any, named: bool) -> None:
    """Share of the row's images that also show the column's class; so rare classes are as visible as frequent ones."""
    from matplotlib import colormaps

    counts = split.co_occurrence[np.ix_(chosen, chosen)]
    shares = counts / np.maximum(np.diag(counts), 1)[:, None]
    np.fill_diagonal(shares, np.nan)
    picture = axes.imshow(np.ma.masked_invalid(shares), cmap=colormaps["Blues"].with_extremes(bad="#f4f6f8"), vmin=0,
                          vmax=max(0.05, np.nanmax(shares)))
    names = [_short(split.classes[column].name) for column in chosen]
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.tick_params(axis="x", colors=INK)
    dark = 0.55 * picture.get_clim()[1]
    if len(names) <= 24:
        for row, column in zip(*np.nonzero(counts), strict=True):
            if row != column:
                axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=6,
                          color="white" if shares[row, column] > dark else INK)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_anchor("N")
    axes.set_title("Classes that come together" + (f", {split.split}" if named else ""))
    axes.set_xlabel("number: pictures that show both; colour: their share of the row's class")
    bar = axes.figure.colorbar(picture, ax=axes, shrink=0.5, pad=0.01, anchor=(0, 1), panchor=(0, 1),
                               format=lambda share, _: f"{share:.0%}")
    bar.outline.set_visible(False)


def _size_bubbles(axes: Axes, splits: Sequence[Statistics]) -> None:
    """A bubble for each size, or a text where all images have the same."""
    every, counts = np.unique(np.concatenate([split.sizes for split in splits]), axis=0, return_counts=True)
    axes.set_title("Sizes")
    if len(every) == 1:
        axes.text(0.5, 0.5, f"all {every[0][0]:,} × {every[0][1]:,} pixels", ha="center", va="center", fontsize=12,
                  color=INK, transform=axes.transAxes)
        axes.set_axis_off()
        return
    areas = 10 + 900 * counts / counts.sum()
    axes.scatter(every[:, 0], every[:, 1], s=areas, color=COLOURS[0], alpha=0.35, linewidths=0.4, edgecolors="white")
    (width, height), most = every[counts.argmax()], counts.max()
    if most > 1:
        axes.text(0.03, 0.97, f"most frequent: {width:,} × {height:,}, {most:,} pictures", va="top", color=FAINT,
                  transform=axes.transAxes)
    wide = every.max() / every.min() > 12
    for axis, scale, limits in ((axes.xaxis, axes.set_xscale, axes.set_xlim),
                                (axes.yaxis, axes.set_yscale, axes.set_ylim)):
        scale("log" if wide else "linear")
        limits(0.8 * every.min() if wide else 0, (1.5 if wide else 1.12) * every.max())
        axis.set_major_formatter("{x:,.0f}")
        axis.set_minor_formatter("")
    axes.axline((1, 1), (2, 2), color=GRID, zorder=0)
    axes.set_box_aspect(1)
    axes.set_anchor("N")
    axes.set_xlabel("width, pixels (area of a bubble: number of pictures; line: square)")
    axes.set_ylabel("height, pixels")
    axes.tick_params(axis="y", colors=FAINT)
    _quiet(axes, grid="both")


def _quiet(axes: Axes, grid: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _short(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH - 1]}…"
