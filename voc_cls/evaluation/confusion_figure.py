"""The confusion matrix as a picture, for TensorBoard."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voc_cls.evaluation.singlelabel import Confusion

MOST_NAMED = 40
"""Classes up to which there is room for their names."""
MOST_NUMBERED = 16
"""And for the numbers of pictures."""
SIZE, DPI = 6.4, 110
"""Of the picture, inches and pixels an inch."""


def confusion_figure(confusion: Confusion) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] RGB; a row is what the pictures are, its colours the shares of what they were taken for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE, SIZE), dpi=DPI, facecolor="white", layout="constrained")
    canvas, axes, classes = FigureCanvasAgg(figure), figure.add_subplot(), len(confusion.labels)
    shares = confusion.shares
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlabel("taken for")
    axes.set_ylabel("it is")
    named = range(classes) if classes <= MOST_NAMED else ()
    size = 9 if classes <= MOST_NUMBERED else 6
    labels = [confusion.labels[number] for number in named]
    axes.set_xticks(named, labels, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(named, labels, fontsize=size, parse_math=False)
    if classes <= MOST_NUMBERED:
        for row, column in np.argwhere(confusion.counts):
            axes.text(column, row, str(confusion.counts[row, column]), ha="center", va="center", fontsize=8,
                      color="white" if shares[row, column] > 0.5 else "black")
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
