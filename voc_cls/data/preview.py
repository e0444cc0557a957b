"""A sheet of training images as the network sees them: each unchanged, then variants of it, with labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
import numpy.typing as npt

from voc_cls.data.augmentation import Augmentation
from voc_cls.data.dataset import IGNORED, Dataset
from voc_cls.data.figure_text import FigureText, save_figure
from voc_cls.data.pipeline import Order, naming_broken_images, training_batches
from voc_cls.data.preprocessing import grey_levels
from voc_cls.image_decoder import Preprocessing

CELL, TITLE, LINE = 2.1, 0.9, 0.17
"""Inches: an image with its name, the title with the subtitle, a line of labels."""
LABELS_WIDTH = 25
"""Characters of labels in a line below an image."""
NAME_LENGTH = 26
DPI = 110
INK, FAINT = "#1c2733", "#7b8794"


@dataclass(frozen=True)
class Preview:
    """Images [V, P, H, W, 3] uint8 and targets [V, P, classes]: row 0 unchanged, the others variants."""

    names: tuple[str, ...]
    images: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.float32]


def preview(dataset: Dataset, images: int, variants: int, augmentation: Augmentation, preprocessing: Preprocessing,
            seed: int) -> Preview:
    """Draws so many images at random, at most, and varies each with the pipeline of the training; the same for a seed.

    The images of a sheet are one batch, so mixup and CutMix mix them with each other.
    """
    random = np.random.default_rng(seed)
    chosen = np.sort(random.choice(len(dataset), min(images, len(dataset)), replace=False))
    draws = random.integers(2**62, size=(variants, len(chosen)))
    order = Order(np.tile(chosen, (variants, 1)), draws)
    with naming_broken_images([dataset.paths[number] for number in chosen]):
        batches = [batch for steps, applied in ((order.steps_between(0, 1), Augmentation()), (order, augmentation))
                   for batch in training_batches(dataset.paths, dataset.targets, steps, preprocessing, applied)]
    levels = grey_levels(np.stack([batch.numpy() for batch, _ in batches]), preprocessing)
    return Preview(names=tuple(dataset.paths[number].name for number in chosen),
                   images=np.clip(np.rint(levels), 0, 255).astype(np.uint8),
                   targets=np.stack([targets.numpy() for _, targets in batches]))


def draw_preview(path: Path, shown: Preview, classes: tuple[str, ...], title: str, subtitle: str) -> None:
    """Draws a PNG, written atomically: a row for every image, itself on the left, with its labels below; if
    images were mixed, below the variants too, with their weights. DataError where it cannot be written."""
    from matplotlib.figure import Figure

    columns, rows = shown.images.shape[:2]
    names = FigureText.of([title, subtitle, *classes, *shown.names])
    classes = tuple(map(names, classes))
    captions = [[caption(targets, classes) for targets in shown.targets[:, row]] for row in range(rows)]
    labelled = columns if (shown.targets[1:] != shown.targets[0]).any() else 1
    heights = [CELL + LINE * max(map(len, texts[:labelled])) for texts in captions]
    with names.drawing({"axes.titlesize": 8, "axes.titlelocation": "left", "axes.labelsize": 8.5,
                        "axes.labelcolor": INK, "xaxis.labellocation": "left", "figure.constrained_layout.w_pad": 0.1,
                        "figure.constrained_layout.h_pad": 0.1}):
        figure = Figure(figsize=(CELL * columns, TITLE + sum(heights)), dpi=DPI, layout="constrained")
        figure.suptitle(names(title), x=0.02, ha="left", fontsize=14, fontweight="bold", color=INK)
        flags = "\n".join(wrap(names(subtitle), LABELS_WIDTH * columns))
        figure.supxlabel(flags, x=0.02, ha="left", fontsize=8.5, color=FAINT)
        grid = figure.subplots(rows, columns, squeeze=False)
        for (row, column), axes in np.ndenumerate(grid):
            axes.imshow(shown.images[column, row], interpolation="antialiased")
            axes.set(xticks=[], yticks=[], frame_on=False)
            if column == 0:
                axes.set_title(names(shown.names[row], NAME_LENGTH), color=FAINT)
            if column < labelled:
                axes.set_xlabel("\n".join(captions[row][column]))
        save_figure(figure, path)


def caption(targets: npt.NDArray[np.float32], classes: tuple[str, ...]) -> list[str]:
    """The labels in lines, the largest weight first; with their weights where one is neither 0 nor 1."""
    fractions = bool(((targets > 0) & (targets < 1)).any())
    present = sorted(np.flatnonzero(targets > 0), key=lambda number: -targets[number])
    labels = [f"{classes[number]} {targets[number]:.2f}" if fractions else classes[number] for number in present]
    labels += [f"{classes[number]} (ignored)" for number in np.flatnonzero(targets == IGNORED)]
    glued = ", ".join(label.replace(" ", "\N{NO-BREAK SPACE}") for label in labels) or "no label"
    return wrap(glued, LABELS_WIDTH, break_long_words=False)
