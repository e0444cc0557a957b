"""Everything there is to say about a model that tells any number of classes on a picture, in one call."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from voc_cls.data.dataset import Dataset, Task
from voc_cls.evaluation.average_precision import Evaluation, evaluate
from voc_cls.evaluation.bootstrap import RESAMPLES, Intervals, bootstrap
from voc_cls.evaluation.calibration import Calibrated, Calibration, calibrated
from voc_cls.evaluation.multilabel import MultilabelScores, decide, json_number, multilabel_scores
from voc_cls.evaluation.probabilities import Floats, sigmoid
from voc_cls.evaluation.thresholds import Thresholds, default_thresholds


@dataclass(frozen=True)
class MultilabelAssessment:
    """Average precisions, decisions by thresholds, calibration and confidence intervals of one model on one split."""

    evaluation: Evaluation
    thresholds: Thresholds
    scores: MultilabelScores
    calibration: Calibration | None
    calibrated: Calibrated
    intervals: Intervals

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what Evaluation.to_dict has, and more keys beside them; null for what is not defined."""
        values = self.evaluation.to_dict()
        for result in self.scores.classes:
            values["classes"][result.name] |= {
                "ap_interval": self.intervals.classes[result.name].to_list(),
                "threshold": result.threshold, "precision": json_number(result.precision),
                "recall": json_number(result.recall), "f1": json_number(result.f1), "predicted": result.predicted,
                "ece": json_number(self.calibrated.raw.classes[result.name]),
            }
        top_k = self.scores.top_k
        return values | {
            "task": Task.MULTI_LABEL.value,
            **self.scores.overall.to_dict(),
            "top_3": None if top_k is None else top_k.to_dict(),
            "thresholds": self.thresholds.to_dict(),
            "calibration": {"fitted": None if self.calibration is None else self.calibration.to_dict(),
                            **self.calibrated.to_dict()},
            "intervals": self.intervals.to_dict(),
        }


def assess_multilabel(dataset: Dataset, logits: Floats, thresholds: Thresholds | None = None,
                      calibration: Calibration | None = None, only: Collection[str] = (), resamples: int = RESAMPLES
                      ) -> MultilabelAssessment:
    """Logits [N, classes] against the labels of `dataset`.

    thresholds, calibration: what the run chose on its validation split; without them thresholds are 0.5 and there is
    no calibrated error. only: the classes to report and to take the means over; all where it is empty.
    """
    if only:
        columns = [column for column, name in enumerate(dataset.classes) if name in only]
        dataset = dataset.only(columns)
        logits = logits[:, columns]
    used = (thresholds or default_thresholds(dataset.classes)).of(dataset.classes)
    calibration = None if calibration is None else calibration.of(dataset.classes)
    probabilities = sigmoid(logits)
    return MultilabelAssessment(
        evaluation=evaluate(dataset, logits),
        thresholds=used,
        scores=multilabel_scores(dataset, probabilities, used.values),
        calibration=calibration,
        calibrated=calibrated(dataset, logits, calibration),
        intervals=bootstrap(dataset, logits, decide(probabilities, used.values), resamples),
    )
