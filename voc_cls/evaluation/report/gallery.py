"""The gallery of a page: images with what was decided about their classes, to be filtered and enlarged.

A page takes as many images as fit, the most telling ones, and says how many there are in all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.predictions import Bools, Floats, data_uri, thumbnail

MOST_BYTES, CLASS_BYTES = 1_300_000, 5_000
"""Of all images, encoded as text, and what each class's curve and cells of matrices take of it: 160 photographs and 20
classes. Reports on 5,000 images stay below 2 MB, of 20 classes as of 80."""
MOST_LABELS = 6
"""Of an image: the most probable ones, beside those that it has or that were decided wrongly."""
DECISIONS = {"All mistakes": ("wrong", "missed"), "Predicted, but not in the labels": ("wrong",),
             "In the labels, but not predicted": ("missed",), "Recognised": ("right",)}
"""Title of a filter → the kinds that it lets through, of those that `decisions` tells apart."""


@dataclass(frozen=True, eq=False)
class Kind:
    """Decisions of one kind.

    Args:
        labels: bool [N, classes], the decisions about images and classes that are of this kind.
        sureness: float [N, classes], the surest come first.
        rarity: One image of this kind is chosen for so many of others.
    """

    labels: Bools
    sureness: Floats
    rarity: int = 1


def decisions(dataset: Dataset, probabilities: Floats, decided: Bools) -> dict[str, Kind]:
    """Kinds of what was `decided` with `probabilities`, both [N, classes]; ignored labels are of none."""
    true, counted = dataset.labels == 1, ~dataset.ignored
    return {"right": Kind(true & decided & counted, probabilities, rarity=4),
            "wrong": Kind(~true & decided & counted, probabilities),
            "missed": Kind(true & ~decided & counted, 1 - probabilities)}


def gallery(dataset: Dataset, models: Mapping[str, tuple[Floats, Floats | None]], kinds: Mapping[str, Kind],
            filters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What gallery.js reads: `models` by name, with their probabilities [N, classes] and thresholds [classes] (None:
    the most probable class is the prediction), and the images that `kinds` choose; `filters` as DECISIONS."""
    scores = np.stack([probabilities for probabilities, _ in models.values()])
    images, telling = [], most_telling(kinds)
    left = max(MOST_BYTES - CLASS_BYTES * len(dataset.classes), MOST_BYTES // 2)
    for row, cases in telling.items():
        picture = data_uri(thumbnail(dataset.paths[row]))
        if (left := left - len(picture)) < 0:
            break
        images.append({"file": dataset.paths[row].name, "picture": picture,
                       "labels": _labels(dataset, row, scores[:, row], [column for _, column, _ in cases]),
                       "cases": cases})
    return {"classes": dataset.classes, "models": list(models), "images": images, "chosen_from": len(telling),
            "thresholds": [None if values is None else np.round(values, 4).tolist() for _, values in models.values()],
            "filters": [{"title": title, "kinds": names, "totals": _totals([kinds[name].labels for name in names])}
                        for title, names in filters.items()]}


def most_telling(kinds: Mapping[str, Kind]) -> dict[int, list[tuple[str, int, float]]]:
    """By row, the one to show first being first: (kind, column, sureness) of its labels, the surest first.

    The kinds and classes take turns, so that each gets its surest images on a page that has no room for all.
    """
    cases = []
    for name, kind in kinds.items():
        for column in np.flatnonzero(kind.labels.any(axis=0)).tolist():
            rows = np.flatnonzero(kind.labels[:, column])
            sureness = kind.sureness[rows, column]
            order = np.argsort(-sureness, kind="stable")
            cases += [(place * kind.rarity, -sure, row, name, column) for place, (row, sure) in enumerate(
                zip(rows[order].tolist(), sureness[order].tolist(), strict=True))]
    telling: dict[int, list[tuple[str, int, float]]] = {}
    for _, negative, row, name, column in sorted(cases):
        telling.setdefault(row, []).append((name, column, round(-negative, 4)))
    return {row: sorted(of_row, key=lambda case: -case[2]) for row, of_row in telling.items()}


def _labels(dataset: Dataset, row: int, scores: Floats, columns: Sequence[int]) -> list[tuple[int, int, list[float]]]:
    """(column, 1: in the labels, 0: not or -1: ignored, probability by each model), the most probable first."""
    highest = scores.max(axis=0)
    shown = dataset.ignored[row] | (dataset.labels[row] == 1)
    shown[[*columns, *np.argsort(-highest)[:MOST_LABELS]]] = True
    order = sorted(np.flatnonzero(shown).tolist(), key=lambda column: -highest[column])
    return [(column, -1 if dataset.ignored[row, column] else int(dataset.labels[row, column]),
             np.round(scores[:, column], 4).tolist()) for column in order]


def _totals(labels: Sequence[Bools]) -> list[int]:
    """Images of any class, then of each."""
    of_kinds = np.logical_or.reduce(labels)
    return [int(of_kinds.any(axis=1).sum()), *of_kinds.sum(axis=0).tolist()]
