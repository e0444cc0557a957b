"""predictions.csv: a row per picture, what was true, and its probability for every class."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset, Task
from voc_cls.evaluation.multilabel import top_k
from voc_cls.files import write_aside

SEPARATOR = "|"
"""Between the names of several classes: a name may have spaces, as in "traffic light"."""


def write_predictions(path: Path, dataset: Dataset, probabilities: npt.NDArray[np.float32]) -> None:
    """Columns `file`, `truth`, `ignored` (single-label: `predicted`), then a probability [N, classes] per class.

    file: from the folder that all the pictures have in common, so that two of the same name stay apart. truth and
    ignored: names of classes with "|" between them. predicted: the most probable class.
    """
    folder = os.path.commonpath([picture.parent for picture in dataset.paths]) if dataset.paths else "."

    heading, beside = {Task.MULTI_LABEL: ("ignored", dataset.ignored),
                       Task.SINGLE_LABEL: ("predicted", top_k(probabilities, 1))}[dataset.task]

    def write(aside: Path) -> None:
        # surrogateescape: a file name is bytes, and need not be UTF-8
        with aside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "truth", heading, *dataset.classes])
            for row, picture in enumerate(dataset.paths):
                writer.writerow([picture.relative_to(folder).as_posix(), _names(dataset, dataset.labels[row] == 1),
                                 _names(dataset, beside[row]),
                                 *(f"{probability:.6f}" for probability in probabilities[row])])

    write_aside(path, write)


def _names(dataset: Dataset, chosen: npt.NDArray[np.bool_]) -> str:
    return SEPARATOR.join(name for name, is_chosen in zip(dataset.classes, chosen, strict=True) if is_chosen)
