"""A contact sheet: pictures with their most probable labels as bars, in one PNG; and one picture with its heat maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voc_cls.data.dataset import Dataset
from voc_cls.data.figure_text import FigureText, save_figure
from voc_cls.errors import DataError
from voc_cls.evaluation.predictions import Floats
from voc_cls.evaluation.report.page import overlay
from voc_cls.image_decoder import as_displayed
from voc_cls.image_header import ImageError
from voc_cls.prediction import Prediction

COLUMNS = 4
MOST_COLUMNS = 5
"""Where these leave no gap in the last row and COLUMNS would."""
MOST_PICTURES = 200
"""More would make a PNG of over 100 megapixels, which viewers refuse."""
MOST_LABELS = 8
SAMPLE_LABELS = 3
"""Bars below a picture of a sheet of samples."""
CELL_WIDTH, HEADING_HEIGHT, PICTURE_HEIGHT, BAR_HEIGHT, TITLE_HEIGHT = 3.5, 0.3, 2.35, 0.235, 0.7
"""Inches."""
DPI = 120
NAME_LENGTH, LABEL_LENGTH = 34, 15
"""Columns that fit, of which wide characters take two; longer ones are shortened in the middle."""
INK, FAINT, SEEN, UNSEEN, TRACK, WRONG = "#1c2733", "#7b8794", "#1f8a5b", "#aeb8c2", "#edf0f3", "#b3372f"


def draw_sheet(path: Path, files: Sequence[Path], predictions: Sequence[Prediction], threshold: float | None = None,
               truths: Sequence[frozenset[str]] | None = None) -> int:
    """Draws the first MOST_PICTURES of `files` with their first MOST_LABELS labels; returns how many were drawn.

    The PNG file `path` appears whole. DataError if it cannot be written or a picture not be read. threshold: as for
    Prediction.seen; labels that count as seen stand out. truths: the labels of each picture, if they are known: they
    stand above it, and wrong predictions are red.
    """
    from matplotlib.figure import Figure

    drawn = min(len(files), MOST_PICTURES)
    labels = min(MOST_LABELS, max(len(prediction.labels) for prediction in predictions))
    columns = MOST_COLUMNS if drawn % COLUMNS and drawn % MOST_COLUMNS == 0 else min(COLUMNS, drawn)
    rows, bars = math.ceil(drawn / columns), labels * BAR_HEIGHT
    colours = f"green: {predictions[0].seen_rule(threshold)}"
    if truths is not None:
        colours = f"above: true labels · {colours}, red: wrong"
    of = f"the first {drawn} of {len(files)} pictures" if drawn < len(files) else f"{drawn} picture{'s' * (drawn > 1)}"
    version = "" if predictions[0].version is None else f", version {predictions[0].version}"
    headings = [file.name for file in files[:drawn]] if truths is None else [
        ", ".join(sorted(truth)) or "none of the classes" for truth in truths[:drawn]]
    names = FigureText.of([predictions[0].model, *headings, *(
        scored.label for prediction in predictions[:drawn] for scored in prediction.labels[:labels])])
    with names.drawing({"figure.constrained_layout.w_pad": 0.2}):
        width, height = max(columns * CELL_WIDTH, 4.2), TITLE_HEIGHT + rows * (HEADING_HEIGHT + PICTURE_HEIGHT + bars)
        figure = Figure((width, height), DPI, facecolor="white", layout="constrained")
        figure.suptitle(f"{names(predictions[0].model)}{version}", x=0.2 / width, ha="left", fontsize=14,
                        fontweight="bold", color=INK)
        figure.supxlabel(f"{of} · {colours}", x=0.2 / width, ha="left", fontsize=8.5, color=FAINT)
        grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[PICTURE_HEIGHT, bars] * rows)
        for axes in grid.flat:
            axes.set_axis_off()
        for index in range(drawn):
            row, column = divmod(index, columns)
            truth = None if truths is None else truths[index]
            _picture(grid[2 * row, column], files[index], names(headings[index], NAME_LENGTH))
            _bars(grid[2 * row + 1, column], predictions[index], threshold, labels, truth, names)
        save_figure(figure, path)
    return drawn


def draw_heat_maps(path: Path, file: Path, prediction: Prediction, threshold: float | None = None) -> None:
    """Draws `file` beside the heat maps over it of the labels that count as seen, if there are none of the first one.

    The PNG file `path` appears whole. DataError if it cannot be written or the picture not be read. threshold: as for
    Prediction.seen; at most MOST_LABELS are drawn.
    """
    from matplotlib.figure import Figure

    labels = (prediction.seen(threshold) or prediction.labels[:1])[:MOST_LABELS]
    names = FigureText.of([file.name, *(scored.label for scored in labels)])
    with names.drawing({}):
        figure = Figure((CELL_WIDTH * (1 + len(labels)), PICTURE_HEIGHT + 2 * HEADING_HEIGHT), DPI, facecolor="white",
                        layout="constrained")
        grid = figure.subplots(1, 1 + len(labels), squeeze=False)[0]
        for axes in grid:
            axes.set_axis_off()
        _picture(grid[0], file, names(file.name, NAME_LENGTH))
        for axes, scored in zip(grid[1:], labels, strict=True):
            if scored.heat_map is not None:
                axes.imshow(overlay(as_displayed(file.read_bytes()), scored.heat_map), interpolation="antialiased")
            axes.set_anchor("S")
            percent = f"{scored.probability:.1%}".replace("%", " %")
            axes.set_title(f"{names(scored.label, LABEL_LENGTH)} {percent}", fontsize=9, color=INK, pad=4)
        save_figure(figure, path)


def draw_samples(path: Path, dataset: Dataset, probabilities: Floats, model: str, pictures: int, seed: int) -> None:
    """`draw_sheet` of up to `pictures` of a split, chosen by `seed`, with their labels and their most probable
    predictions; `model` is the title, probabilities are [N, classes]."""
    rows = np.random.default_rng(seed).choice(len(dataset), min(pictures, len(dataset)), replace=False)
    predictions = [Prediction.from_probabilities(probabilities[row], dataset.classes, model, dataset.task.activation,
                                                 SAMPLE_LABELS) for row in rows]
    truths = [frozenset(dataset.named(dataset.labels[row])) for row in rows]
    draw_sheet(path, [dataset.paths[row] for row in rows], predictions, truths=truths)


def _picture(axes: Any, file: Path, heading: str) -> None:
    try:
        axes.imshow(as_displayed(file.read_bytes()), interpolation="antialiased")  # few pixels are drawn as squares
    except (OSError, ImageError) as error:
        raise DataError(f"{file} cannot be drawn: {error}") from None
    axes.set_anchor("S")
    axes.set_title(heading, fontsize=8.5, color=FAINT, pad=4)


def _bars(axes: Any, prediction: Prediction, threshold: float | None, labels: int, truth: frozenset[str] | None,
          names: FigureText) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(labels - 0.5, -0.5)
    found = prediction.seen(threshold)
    for row, scored in enumerate(prediction.labels[:labels]):
        seen = scored in found
        colour = UNSEEN if not seen else SEEN if truth is None or scored.label in truth else WRONG
        start, length = 0.36, 0.44
        axes.barh(row, length, left=start, height=0.5, color=TRACK)
        axes.barh(row, length * scored.probability, left=start, height=0.5, color=colour)
        style: dict[str, Any] = {"fontsize": 9, "va": "center", "color": INK if seen else FAINT,
                                 "fontweight": "bold" if seen else "normal"}
        axes.text(start - 0.025, row, names(scored.label, LABEL_LENGTH), ha="right", **style)
        axes.text(1.0, row, f"{scored.probability:.1%}".replace("%", " %"), ha="right", **style)
