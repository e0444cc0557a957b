"""The report of a multi-label model: average precisions, decisions by thresholds, co-occurrence, mistakes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.average_precision import average_precisions
from voc_cls.evaluation.bootstrap import RESAMPLES
from voc_cls.evaluation.calibration import Calibration, Thresholds, default_thresholds, reliability
from voc_cls.evaluation.decisions import MultilabelScores, multilabel_intervals, multilabel_scores
from voc_cls.evaluation.objects import LARGE, SMALL
from voc_cls.evaluation.predictions import Floats, probabilities_of
from voc_cls.evaluation.report import page
from voc_cls.evaluation.report.charts import Chart, precision_recall_chart
from voc_cls.evaluation.report.gallery import DECISIONS, decisions, gallery
from voc_cls.evaluation.report.page import Report


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MultilabelReport(Report):
    """Average precisions, decisions by thresholds, calibration and confidence intervals."""

    thresholds: Thresholds
    scores: MultilabelScores

    @property
    def headline(self) -> dict[str, float]:
        overall = self.scores.overall
        return {"mAP": self.map, "11-point mAP": self.average_precisions.map_11pt, "CF1": overall.cf1,
                "OF1": overall.of1}

    def _classes(self) -> dict[str, dict[str, Any]]:
        return {name: values | {"threshold": self.thresholds.classes[name].threshold}
                for name, values in super()._classes().items()}

    def _metrics(self) -> dict[str, Any]:
        top_k = self.scores.top_k
        return {**self.scores.overall.to_dict(), "top_3": None if top_k is None else top_k.to_dict(),
                "thresholds": asdict(self.thresholds)}

    def _page(self) -> dict[str, Any]:
        dataset, probabilities = self.dataset, probabilities_of(self.logits, self.dataset.task)
        truth, decided = (marked & ~dataset.ignored for marked in (
            dataset.labels == 1, probabilities >= self.thresholds.values))
        kinds = decisions(dataset, probabilities, decided)
        return {
            "template": "multilabel.html",
            "classes": list(zip(self.average_precisions.classes, self.scores.classes,
                                self.thresholds.classes.values(), strict=True)),
            "small": SMALL, "large": LARGE,
            "curves": curves(self),
            "reliability": page.reliability_charts(self, "labels"),
            "matrices": [(title, page.matrix(dataset.classes, counts, counts.diagonal())) for title, counts in (
                ("Labels", truth.T.astype(int) @ truth), ("Predictions", decided.T.astype(int) @ decided))],
            "gallery": gallery(dataset, {"": (probabilities, self.thresholds.values)}, kinds, DECISIONS),
            "cams": page.explained(self, kinds, probabilities),
        }


def multilabel_report(dataset: Dataset, logits: Floats, thresholds: Thresholds | None = None,
                      calibration: Calibration | None = None, classes: Collection[str] = (),
                      resamples: int = RESAMPLES) -> MultilabelReport:
    """As `tasks.evaluate`, of multi-label logits."""
    if classes:
        columns = [column for column, name in enumerate(dataset.classes) if name in classes]
        dataset, logits = dataset.only(columns), logits[:, columns]
    thresholds = thresholds or default_thresholds(dataset.classes)
    thresholds = replace(thresholds, classes={name: thresholds.classes[name] for name in dataset.classes})
    probabilities = probabilities_of(logits, dataset.task)
    return MultilabelReport(
        dataset=dataset, logits=logits,
        average_precisions=average_precisions(dataset, logits),
        thresholds=thresholds,
        scores=multilabel_scores(dataset, probabilities, thresholds.values),
        calibration=calibration,
        reliability=reliability(dataset, logits),
        calibrated=None if calibration is None else reliability(dataset, calibration.rescaled(logits)),
        intervals=multilabel_intervals(dataset, logits, probabilities >= thresholds.values, resamples))


def curves(report: MultilabelReport) -> list[tuple[Chart, float]]:
    """(precision/recall curve, average precision) of the classes that have positives."""
    charts = []
    columns = zip(report.average_precisions.classes, report.scores.classes, report.thresholds.values, strict=True)
    for column, (result, rates, threshold) in enumerate(columns):
        counted = ~report.dataset.ignored[:, column]
        if result.positives:
            chart = precision_recall_chart(result.name, report.dataset.labels[counted, column] == 1,
                                           report.logits[counted, column], (rates.recall, rates.precision), threshold)
            charts.append((chart, result.ap))
    return charts
