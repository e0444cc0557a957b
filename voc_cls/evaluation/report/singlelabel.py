"""The report of a single-label model: accuracies, the confusion matrix, and the pictures that were confused."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from scipy.special import log_softmax

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.average_precision import average_precisions
from voc_cls.evaluation.bootstrap import RESAMPLES
from voc_cls.evaluation.calibration import Calibration, reliability
from voc_cls.evaluation.decisions import SinglelabelScores, singlelabel_intervals, singlelabel_scores
from voc_cls.evaluation.predictions import Floats, probabilities_of, top_k
from voc_cls.evaluation.report import page
from voc_cls.evaluation.report.gallery import DECISIONS, decisions, gallery
from voc_cls.evaluation.report.page import Report

MOST_DRAWN = 60
"""Classes up to which the matrix is drawn; a larger one could not be read."""
MOST_PAIRS = 12
"""Of confused classes, in the list."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SinglelabelReport(Report):
    """Accuracies, confusions, calibration and confidence intervals.

    The average precisions are of each class against the rest, the pictures ranked by its probability.
    """

    scores: SinglelabelScores

    @property
    def accuracy(self) -> float:
        """Share of the pictures whose most probable class is right, 0-1."""
        return self.scores.accuracy

    @property
    def headline(self) -> dict[str, float]:
        top_k = self.scores.top_k
        return {"accuracy": self.accuracy, **({} if top_k is None else {f"top-{top_k.k} accuracy": top_k.accuracy}),
                "macro F1": self.scores.macro.f1, "mAP": self.map}

    def _metrics(self) -> dict[str, Any]:
        scores = self.scores
        return {"accuracy": scores.accuracy,
                **({scores.top_k.name: scores.top_k.accuracy} if scores.top_k else {}),
                "log_loss": scores.log_loss, "macro": asdict(scores.macro),
                "confusion": {"labels": list(self.dataset.classes), "counts": scores.confusion.counts.tolist()}}

    def _page(self) -> dict[str, Any]:
        dataset, confusion = self.dataset, self.scores.confusion
        probabilities = probabilities_of(self.logits, dataset.task)
        kinds = decisions(dataset, probabilities, top_k(probabilities, 1))
        return {
            "template": "singlelabel.html",
            "log_loss_by_chance": math.log(len(dataset.classes)),
            "classes": list(zip(self.average_precisions.classes, self.scores.classes, strict=True)),
            "matrix": page.matrix(confusion.labels, confusion.counts, confusion.counts.sum(axis=1))
            if len(dataset.classes) <= MOST_DRAWN else [],
            "largest_share": max((pair.share for pair in confusion.pairs()), default=1.0),
            "pairs": confusion.pairs(MOST_PAIRS),
            "all_pairs": len(confusion.pairs()),
            "reliability": page.reliability_charts(self, "pictures"),
            "gallery": gallery(dataset, {"": (probabilities, None)}, kinds, DECISIONS),
            "cams": page.explained(self, {name: kinds[name] for name in ("right", "wrong")}, probabilities),
        }


def singlelabel_report(dataset: Dataset, logits: Floats, calibration: Calibration | None = None,
                       classes: Collection[str] = (), resamples: int = RESAMPLES) -> SinglelabelReport:
    """As `tasks.evaluate`, of single-label logits."""
    columns = [column for column, name in enumerate(dataset.classes) if not classes or name in classes]
    return SinglelabelReport(
        dataset=dataset, logits=logits,
        average_precisions=average_precisions(dataset, log_softmax(logits, axis=-1), classes),
        scores=singlelabel_scores(dataset, logits, classes),
        calibration=calibration,
        reliability=reliability(dataset, logits),
        calibrated=None if calibration is None else reliability(dataset, calibration.rescaled(logits)),
        intervals=singlelabel_intervals(dataset, logits, columns, resamples))
