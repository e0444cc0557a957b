"""Which unlabelled images to label next: those whose labels would change a head the most, and in different ways.

BADGE (Ash et al. 2020, arXiv:1906.03671): an image stands for the gradient that the classifier's weights would get if
the most probable answers were right, which is long where the network is uncertain; k-means++ draws images whose
gradients are far from each other. benchmarks/active_learning.py compares it with other rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voc_cls.data.dataset import Task
from voc_cls.errors import UsageError
from voc_cls.evaluation.predictions import Floats, Predictions, top_k
from voc_cls.files import file_digests
from voc_cls.prediction import Prediction


@dataclass(frozen=True)
class Candidate:
    """An image to label, and what the network predicts for it."""

    file: Path
    uncertainty: float
    """Length of the errors of its probabilities, if the most probable answers are right; 0: certain."""
    prediction: Prediction
    """Of all labels."""


def unlabelled(paths: Sequence[Path], known: Sequence[Path]) -> dict[str, Path]:
    """By digest, the images that are copies neither of `known` nor of each other; UsageError where none is left."""
    labelled, pool = set(file_digests(known)), dict[str, Path]()
    for path, digest in zip(paths, file_digests(paths), strict=True):
        if digest not in labelled:
            pool.setdefault(digest, path)
    if not pool:
        raise UsageError("`pictures`: all are labelled already; name others")
    return pool


def candidates(features: Floats, predictions: Predictions, count: int, seed: int) -> list[Candidate]:
    """The images to label next, from what enters the classifier, [N, D], and what is predicted."""
    errors = expected_errors(predictions.probabilities, predictions.task)
    return [Candidate(predictions.paths[row], float(np.linalg.norm(errors[row])), predictions[row])
            for row in choose(features, errors, count, seed)]


def expected_errors(probabilities: Floats, task: Task) -> Floats:
    """The loss's gradient by the logits, [N, classes], if the most probable answers are right."""
    answers = probabilities > 0.5 if task is Task.MULTI_LABEL else top_k(probabilities, 1)
    errors: Floats = probabilities - answers
    return errors


def choose(features: Floats, errors: Floats, count: int, seed: int) -> Sequence[int]:
    """Rows to label, `count` or all, in the order in which they are drawn.

    features: [N, D]. errors: [N, classes]. The product of the two is the gradient; scikit-learn's k-means++ needs all
    classes × D numbers of it for each image, distances do not.
    """
    random = np.random.default_rng(seed)
    lengths = np.square(features).sum(axis=1) * np.square(errors).sum(axis=1)
    rows, nearest = [int(lengths.argmax())], np.full(len(features), np.inf)
    while len(rows) < min(count, len(features)):
        products = (features @ features[rows[-1]]) * (errors @ errors[rows[-1]])
        nearest = np.minimum(nearest, np.maximum(lengths + lengths[rows[-1]] - 2 * products, 1e-12))
        nearest[rows] = 0
        rows.append(int(random.choice(len(features), p=nearest / nearest.sum())))
    return rows
