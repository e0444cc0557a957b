"""Two models on the same pictures: the difference of their average precisions, and what they judge differently.

The bootstrap is paired: each resample has the same pictures for both models, so the luck of the split, which is most of
the interval of either, cancels out of the difference. An interval without 0 is a difference that other pictures of this
kind would probably show too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.average_precision import resampled_average_precisions
from voc_cls.evaluation.bootstrap import LEAST_POSITIVES, RESAMPLES, UNKNOWN, Interval, draw, interval_of
from voc_cls.evaluation.predictions import Bools, Floats, defined_mean, probabilities_of, top_k
from voc_cls.evaluation.report.gallery import Kind, gallery
from voc_cls.evaluation.report.multilabel import MultilabelReport
from voc_cls.evaluation.report.page import Report, json_ready, render

MOST_CHANGES = 500
"""In the JSON file."""
FILTERS = {"All changes": ("corrected", "broken"), "Corrected by B": ("corrected",), "Broken by B": ("broken",)}
"""Of the page, as report.gallery.DECISIONS."""


@dataclass(frozen=True)
class Difference:
    """A metric of models A and B, 0-1, and the 95 % interval of B - A; the decisions that B corrects and breaks."""

    name: str
    a: float
    b: float
    interval: Interval
    corrected: int
    broken: int

    @property
    def texts(self) -> tuple[str, str]:
        """B - A and its interval, in points with their signs."""
        low, high = self.interval.low, self.interval.high
        return ("–" if np.isnan(self.b - self.a) else f"{100 * (self.b - self.a):+.1f}",
                "–" if np.isnan(low) else f"{100 * low:+.1f} to {100 * high:+.1f}")


@dataclass(frozen=True)
class Change:
    """A label of a picture by A and by B: its probability, 0-1, and its rank among all pictures, 1: most probable."""

    row: int
    file: str
    label: str
    true: bool
    probabilities: tuple[float, ...]
    ranks: tuple[int, ...]
    verdict: str
    """Of B's decision: corrected, broken or same decision."""


@dataclass(frozen=True)
class Comparison:
    """`models` are the names of A and B; `differences` the means, then the average precision (area) of each class;
    `changes` those of decisions first, and of both kinds those by the largest factor of the rank."""

    dataset: Dataset
    models: Sequence[str]
    resamples: int
    differences: Sequence[Difference]
    changes: Sequence[Change]
    probabilities: Floats
    """[2, N, classes]"""
    thresholds: Sequence[Floats | None]
    corrected: Bools
    """[N, classes]: only the decision of B is right."""
    broken: Bools

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, as `voc-eval --compare --json` writes it."""
        values: dict[str, Any] = json_ready({
            "models": self.models, "split": self.dataset.name, "pictures": len(self.dataset),
            "resamples": self.resamples, "differences": list(map(asdict, self.differences)),
            "changes": list(map(asdict, self.changes))})
        return values

    def to_html(self) -> str:
        """One page that loads no other file."""
        moved = np.abs(self.probabilities[1] - self.probabilities[0])
        kinds = {"corrected": Kind(self.corrected, moved), "broken": Kind(self.broken, moved)}
        models = {f"{letter}: {Path(name).name}": (scores, values) for letter, name, scores, values in zip(
            "AB", self.models, self.probabilities, self.thresholds, strict=True)}
        return render("compare.html", {"comparison": self, "gallery": gallery(self.dataset, models, kinds, FILTERS)})


def compare(a: Report, b: Report, models: Sequence[str], resamples: int = RESAMPLES) -> Comparison:
    """Compares the reports of two models, by name, on the same split; `resamples` of the bootstrap.

    Decisions are those at the thresholds. In single-label data sets it is the most probable class, and it counts for
    the true class of the picture alone.
    """
    dataset = a.dataset
    probabilities = np.stack([probabilities_of(np.asarray(report.logits, np.float64), dataset.task)
                              for report in (a, b)])
    seen = np.stack([scores >= report.thresholds.values if isinstance(report, MultilabelReport) else top_k(scores, 1)
                     for scores, report in zip(probabilities, (a, b), strict=True)])
    drawn, true = draw(len(dataset), resamples), dataset.labels == 1
    counted = true if dataset.single_label else ~dataset.ignored
    right = counted & (seen == true)
    verdicts = right[1] & ~right[0], right[0] & ~right[1]
    corrected, broken = (verdict.sum(axis=0).tolist() for verdict in verdicts)
    areas = np.stack([resampled_average_precisions(dataset, scores, drawn)[0] for scores in probabilities])
    means = {"mean": defined_mean(areas)}
    if dataset.single_label:
        means["accuracy"] = right.any(axis=2) @ drawn.T / len(dataset)
    differences = [Difference(name, before[0], after[0], interval_of(after - before), sum(corrected), sum(broken))
                   for name, (before, after) in means.items()]
    for column, (name, positives) in enumerate(dataset.positives.items()):
        before, after = areas[..., column]
        interval = UNKNOWN if positives < LEAST_POSITIVES else interval_of(after - before)
        differences.append(Difference(name, before[0], after[0], interval, corrected[column], broken[column]))

    ranks = rankdata(np.where(dataset.ignored, 1, -probabilities), "min", axis=1).astype(int)
    # by factors: from 5 to 50 an average precision changes, from 305 to 350 hardly
    moved, changed = np.abs(np.log(ranks[1] / ranks[0])), seen[0] != seen[1]
    order = np.lexsort((-moved[counted], ~changed[counted]))[:MOST_CHANGES]
    changes = [Change(row, dataset.paths[row].name, dataset.classes[column], bool(true[row, column]),
                      tuple(probabilities[:, row, column].tolist()), tuple(ranks[:, row, column].tolist()),
                      "same decision" if not changed[row, column] else
                      "corrected" if right[1, row, column] else "broken")
               for row, column in np.argwhere(counted)[order].tolist()]
    thresholds = [report.thresholds.values if isinstance(report, MultilabelReport) else None for report in (a, b)]
    return Comparison(dataset, models, resamples, differences, changes, probabilities, thresholds, *verdicts)
