"""The figure of `voc-data stats --plot`: pictures a class, which classes come together, and the pictures' sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voc_cls.data.dataset import Task
from voc_cls.data.statistics import Statistics
from voc_cls.errors import DataError
from voc_cls.files import write_aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 40
"""Classes that are drawn, the most frequent ones; more could not be read."""
MOST_SPLITS = 6
"""Bars side by side for a class; more, such as folds, could not be told apart."""
DPI = 130
INK, FAINT, GRID = "#1c2733", "#7b8794", "#e3e8ed"
COLOURS = ("#2f6f9f", "#e0913a", "#5a9e6f", "#b3565d", "#8069a8", "#8c8c8c")
NAME_LENGTH = 26


def draw_statistics(path: Path, splits: Sequence[Statistics]) -> None:
    """Draws a PNG of all `splits`; it appears whole. DataError if it cannot be written."""
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
        _bars(axes[0], drawn, chosen)
        if together:
            _heat_map(axes[1], largest, chosen, named=len(drawn) > 1)
        _sizes(axes[-1], drawn)
        figure.suptitle(_title(drawn, splits, len(chosen)), x=0.01, ha="left", fontsize=13, fontweight="bold")
        try:
            write_aside(path, lambda aside: figure.savefig(aside, format="png"))
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); name another file with --plot") from None


def _title(drawn: Sequence[Statistics], splits: Sequence[Statistics], classes: int) -> str:
    parts = " · ".join(f"{split.split} {split.pictures:,}" for split in drawn)
    name = drawn[0].name.removesuffix(drawn[0].split).strip()
    left_out = f" · {len(splits) - len(drawn)} more splits" if len(splits) > len(drawn) else ""
    every = len(drawn[0].classes)
    of = f" · the {classes} most frequent of {every:,} classes" if classes < every else ""
    return f"{name}: {parts} pictures{left_out}{of}"


def _bars(axes: Axes, splits: Sequence[Statistics], chosen: Any) -> None:
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
    """Share of the row's pictures that show the column's class too: rare classes stand out as much as frequent ones."""
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


def _sizes(axes: Axes, splits: Sequence[Statistics]) -> None:
    """A bubble for each size; where all pictures have the same, it is said instead."""
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
