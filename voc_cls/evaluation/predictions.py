"""From logits to predictions, in NumPy: probabilities by task, the most probable labels, records, CSV."""

from __future__ import annotations

import base64
import csv
import html
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_softmax, logit, softmax

from voc_cls.data.dataset import Dataset, Task
from voc_cls.errors import UsageError
from voc_cls.files import write_csv
from voc_cls.image_decoder import as_displayed
from voc_cls.prediction import Prediction

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
SEPARATOR = "|"
"""Between the names of several classes in predictions.csv: a name may contain spaces, as in "traffic light"."""
THUMBNAIL_SIZE = 256
"""Pixels of the longer side: sharp on a dense screen at the 120 to 160 that the report gives it, fair enlarged."""
THUMBNAIL_QUALITY = 60
"""Of WebP: about 6 kB a photograph."""
SMALLEST = 1e-7
"""Probability, of those that predictions.csv rounds to 0."""
NOTEBOOK_ROWS = 24
"""Images that a notebook shows of one prediction call."""


def probabilities_of(logits: Floats, task: Task) -> Floats:
    """Logits [..., classes] → probabilities 0-1; in a single-label task each row sums to 1."""
    probabilities: Floats = expit(logits) if task is Task.MULTI_LABEL else softmax(logits, axis=-1)
    return probabilities


def log_loss(truth: npt.NDArray[np.intp], logits: Floats) -> float:
    """Mean of `-log p` of the true columns [N], nats: the softmax cross-entropy without smoothing or weights."""
    logarithms = log_softmax(np.asarray(logits, np.float64), axis=-1)
    return float(-logarithms[np.arange(len(truth)), truth].mean())


def defined_mean(values: Floats) -> Floats:
    """Mean over the last axis of the values that are not NaN; NaN where there are none."""
    means: Floats = np.ma.masked_invalid(values).mean(axis=-1, keepdims=True).filled(np.nan)[..., 0]
    return means


def top_k(scores: Floats, k: int) -> Bools:
    """bool [N, classes]: the k highest scores of each row; of equal ones the first in the label list."""
    chosen = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    selected = np.zeros(scores.shape, bool)
    np.put_along_axis(selected, chosen, True, axis=1)
    return selected


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """The predictions of a network for some images; iteration gives one `Prediction` for each image."""

    paths: tuple[Path, ...]
    classes: tuple[str, ...]
    probabilities: Floats
    """float [N, classes], 0 to 1, of all classes in the network's order."""
    task: Task
    model: str
    """Name of the run."""
    top_k: int = 0
    """How many labels of each image records, iteration and notebooks show; 0: all."""

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Prediction:
        return Prediction.from_probabilities(self.probabilities[row], self.classes, self.model, self.task.activation,
                                             self.top_k)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[row] for row in range(len(self)))

    def to_records(self) -> list[dict[str, Any]]:
        """One record for each image and label, the most probable first: for `pandas.DataFrame` and the like."""
        return [{"file": str(path), "label": scored.label, "probability": scored.probability}
                for path, prediction in zip(self.paths, self, strict=True) for scored in prediction.labels]

    def __repr__(self) -> str:
        """A line for each image, at most NOTEBOOK_ROWS."""
        lines = [f"{path.name}: " + ", ".join(f"{entry.label} {entry.probability:.1%}" for entry in prediction.labels)
                 for path, prediction in zip(self.paths[:NOTEBOOK_ROWS], self, strict=False)]
        rest = len(self) - len(lines)
        return "\n".join([*lines, *([f"and {rest:,} more"] if rest else [])])

    def _repr_html_(self) -> str:
        """A row for each image, at most NOTEBOOK_ROWS, with a thumbnail; labels that count as seen are bold."""
        rows = []
        for path, prediction in zip(self.paths[:NOTEBOOK_ROWS], self, strict=False):
            seen = prediction.seen()
            labels = (f"{html.escape(scored.label)} {scored.probability:.1%}" for scored in prediction.labels)
            cells = "<br>".join(f"<b>{text}</b>" if scored in seen else text
                                for text, scored in zip(labels, prediction.labels, strict=True))
            rows.append(f'<tr><td><img src="{data_uri(thumbnail(path))}" style="max-height:128px"></td>'
                        f"<td>{html.escape(path.name)}</td><td>{cells}</td></tr>")
        rest = len(self) - len(rows)
        more = f"<p>and {rest:,} more images</p>" if rest > 0 else ""
        return f"<table><tr><th></th><th>file</th><th>labels</th></tr>{''.join(rows)}</table>{more}"


def write_predictions(path: Path, dataset: Dataset, probabilities: Floats) -> None:
    """Writes predictions.csv, a row for each picture, whole or not at all.

    Columns: `file`, relative to the folder that all pictures share, so that two of the same name stay apart; `truth`,
    names of classes with "|" between them; `ignored` likewise (multi-label) or `predicted`, the most probable class
    (single-label); then the probability of each class, from `probabilities` [N, classes].
    """
    heading, marked = {Task.MULTI_LABEL: ("ignored", dataset.ignored),
                       Task.SINGLE_LABEL: ("predicted", top_k(probabilities, 1))}[dataset.task]

    write_csv(path, ["file", "truth", heading, *dataset.classes], (
        [*described, SEPARATOR.join(dataset.named(marked[row])), *(f"{value:.6f}" for value in probabilities[row])]
        for row, described in enumerate(_described(dataset))))


def read_logits(path: Path, dataset: Dataset, weights: Path) -> Floats | None:
    """Logits, float64 [N, classes], of the probabilities in a predictions.csv; None if it is missing, damaged, older
    than the `weights`, or of other images or labels. With 6 digits, those that differ by less become equal."""
    try:
        if path.stat().st_mtime < weights.stat().st_mtime:
            return None
        heading, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
        probabilities = np.array([row[3:] for row in rows], np.float64).clip(SMALLEST, 1 - SMALLEST)
    except (OSError, ValueError):
        return None
    same = heading[3:] == list(dataset.classes) and [row[:2] for row in rows] == _described(dataset)
    if not same:
        return None
    logits: Floats = logit(probabilities) if dataset.task is Task.MULTI_LABEL else np.log(probabilities)
    return logits


def _described(dataset: Dataset) -> list[list[str]]:
    """`file` and `truth` of each image."""
    folder = os.path.commonpath([picture.parent for picture in dataset.paths]) if dataset.paths else "."
    return [[picture.relative_to(folder).as_posix(), SEPARATOR.join(dataset.named(dataset.labels[row]))]
            for row, picture in enumerate(dataset.paths)]


def check_binary(dataset: Dataset) -> None:
    """UsageError unless every picture is of one of two classes."""
    if dataset.task is not Task.SINGLE_LABEL or len(dataset.classes) != 2:
        raise UsageError(f"`table`: is for pictures of one of two classes; {dataset.name} is {dataset.task.value} with "
                         f"{len(dataset.classes)} classes, for which there is `predictions`")


def write_binary_table(path: Path, dataset: Dataset, probabilities: Floats) -> None:
    """Writes a CSV of `files,y_true,y_pred`, whole or not at all: path, 1 for the second of two classes, probability of
    that class; `check_binary` has passed the data set."""
    write_csv(path, ["files", "y_true", "y_pred"], zip(
        map(str, dataset.paths), dataset.labels[:, 1].astype(int),
        (f"{probability:.6f}" for probability in probabilities[:, 1]), strict=True))


def thumbnail(path: Path) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] RGB, THUMBNAIL_SIZE at most; upright, as the network gets it.

    A picture of few pixels is enlarged, each pixel as a square: a browser would blur it.
    """
    from PIL import Image

    small = Image.fromarray(as_displayed(path.read_bytes(), THUMBNAIL_SIZE))
    small.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    scale = THUMBNAIL_SIZE // max(small.size)
    return np.asarray(small.resize((small.width * scale, small.height * scale), Image.Resampling.NEAREST))


def data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """uint8 [H, W, 3] RGB, or [H, W, 4] with alpha, as a WebP file in a data: address."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "webp", quality=THUMBNAIL_QUALITY, method=6)  # the slowest and smallest
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
