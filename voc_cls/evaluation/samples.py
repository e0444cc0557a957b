"""A contact sheet of sample predictions, with what the pictures really show."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.probabilities import Floats
from voc_cls.evaluation.sheet import draw_sheet
from voc_cls.prediction import Prediction

MOST_LABELS = 3
"""Bars below a picture."""


def draw_samples(path: Path, dataset: Dataset, probabilities: Floats, model: str, pictures: int, seed: int) -> None:
    """Draws so many pictures, chosen by `seed`, with their most probable labels; [N, classes] are all pictures'.

    The file appears whole; DataError if it cannot be written or a picture not be read.
    """
    number = min(pictures, len(dataset))
    rows = np.random.default_rng(seed).choice(len(dataset), number, replace=False)
    predictions = [Prediction.from_probabilities(probabilities[row], dataset.classes, model, dataset.task.activation,
                                                 MOST_LABELS) for row in rows]
    truths = [frozenset(name for name, label in zip(dataset.classes, dataset.labels[row], strict=True) if label == 1)
              for row in rows]
    draw_sheet(path, [dataset.paths[row] for row in rows], predictions, truths=truths)
