"""predictions.csv: a row per picture, its probability for every class and what was true."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset
from voc_cls.files import write_aside


def write_predictions(path: Path, dataset: Dataset, probabilities: npt.NDArray[np.float32]) -> None:
    """Columns `file`, `truth` and `ignored` (class names, space-separated), then a probability per class."""
    def write(aside: Path) -> None:
        with aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "truth", "ignored", *dataset.classes])
            for row, picture in enumerate(dataset.paths):
                writer.writerow([picture.name, _names(dataset, dataset.labels[row] == 1),
                                 _names(dataset, dataset.ignored[row]),
                                 *(f"{probability:.6f}" for probability in probabilities[row])])

    write_aside(path, write)


def _names(dataset: Dataset, chosen: npt.NDArray[np.bool_]) -> str:
    return " ".join(name for name, is_chosen in zip(dataset.classes, chosen, strict=True) if is_chosen)
