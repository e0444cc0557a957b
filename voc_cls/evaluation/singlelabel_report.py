"""What report.html says of a model that tells the one class of a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.mistakes import Example, worst_of_pair
from voc_cls.evaluation.probabilities import Floats, softmax
from voc_cls.evaluation.report import (
    HEAT_MAPS,
    MOST_NUMBERED,
    MOST_OF_A_KIND,
    OPEN,
    HeatMaps,
    Shown,
    Subject,
    reliability_charts,
    show,
)
from voc_cls.evaluation.singlelabel import Confused, Confusion, truth_of
from voc_cls.evaluation.singlelabel_assessment import SinglelabelAssessment

MOST_DRAWN = 60
"""Classes up to which the matrix is drawn; of more nobody could find anything in it."""
MOST_PAIRS = 12
"""Of classes that are confused, in the list and with pictures."""
SECTIONS = {"summary": "Summary", "classes": "Classes", "confusion": "Confusion", "learning": "Learning",
            "reliability": "Reliability", "mistakes": "Mistakes", "where": "Grad-CAM", "made": "How it was made"}


@dataclass(frozen=True)
class Row:
    """The pictures of a class by what they were taken for: how many, their share, and how strong a colour, 0-1."""

    name: str
    counts: tuple[int, ...]
    shares: tuple[float, ...]
    strengths: tuple[float, ...]


def singlelabel_page(subject: Subject, assessment: SinglelabelAssessment) -> dict[str, Any]:
    """What the template is filled with."""
    dataset, confusion = subject.dataset, assessment.scores.confusion
    labels, fitted, errors = confusion.labels, assessment.calibration, assessment.calibrated
    probabilities = softmax(subject.logits)
    pairs = confusion.pairs(MOST_PAIRS)
    mistakes = [(pair, worst_of_pair(dataset, probabilities, pair, MOST_OF_A_KIND)) for pair in pairs]
    return {
        "template": "singlelabel.html", "sections": SECTIONS,
        "chance": math.log(len(labels)),
        "classes": list(zip(assessment.evaluation.classes, assessment.scores.classes, strict=True)),
        "matrix": matrix(confusion) if len(labels) <= MOST_DRAWN else [],
        "strongest": strongest(confusion), "numbered": len(labels) <= MOST_NUMBERED,
        "pairs": [(labels[pair.truth], labels[pair.predicted], pair) for pair in pairs],
        "confused": len(confusion.pairs()),
        "reliability": reliability_charts("pictures", errors.raw, [] if fitted is None else [
            (f"logits divided by {fitted.temperature:.2f}", errors.temperature)]),
        "mistakes": [(labels[pair.truth], labels[pair.predicted], pair, [show(dataset, one, "wrong") for one in worst])
                     for pair, worst in mistakes],
        "open_pairs": OPEN,
        "says": {"right": "recognised", "wrong": "wrong", "truth": "it is"},
        "cams": explained(dataset, probabilities, mistakes, subject.heat_maps),
    }


def matrix(confusion: Confusion) -> list[Row]:
    """Mistakes get their strength from the largest share that one of them has, else most could not be told apart."""
    strengths = np.minimum(confusion.shares / strongest(confusion), 1)
    np.fill_diagonal(strengths, confusion.shares.diagonal())
    return [Row(name, tuple(counts), tuple(shares), tuple(strength)) for name, counts, shares, strength in zip(
        confusion.labels, confusion.counts.tolist(), confusion.shares.tolist(), strengths.tolist(), strict=True)]


def strongest(confusion: Confusion) -> float:
    """The largest share of a class that is taken for one other class, 0-1; 1 where nothing is."""
    return max((pair.share for pair in confusion.pairs()), default=1.0)


def explained(dataset: Dataset, probabilities: Floats, mistakes: Sequence[tuple[Confused, Sequence[Example]]],
              heat_maps: HeatMaps) -> list[Shown]:
    """A few of what was surely right and surely wrong, with Grad-CAM of what it was taken for, a class at most once."""
    truth, predicted, sure = truth_of(dataset), probabilities.argmax(axis=1), probabilities.max(axis=1)
    hits = [max(rows, key=lambda row: sure[row]) for column in range(len(dataset.classes))
            if len(rows := np.flatnonzero((truth == column) & (predicted == column)))]
    right = sorted((Example(int(row), int(truth[row]), float(sure[row])) for row in hits),
                   key=lambda example: -example.probability)
    wrong = sorted((worst[0] for _, worst in mistakes), key=lambda example: -example.probability)
    chosen = [(kind, example) for kind, examples in (("right", right), ("wrong", wrong))
              for example in examples[:HEAT_MAPS]]
    maps = heat_maps([dataset.paths[example.row] for _, example in chosen], [example.column for _, example in chosen])
    return [show(dataset, example, kind, heat) for (kind, example), heat in zip(chosen, maps, strict=True)]
