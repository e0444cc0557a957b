"""Everything there is to say about a model that tells the one class of a picture, in one call."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from voc_cls.data.dataset import Dataset, Task
from voc_cls.evaluation.average_precision import Evaluation, evaluate
from voc_cls.evaluation.bootstrap import RESAMPLES, SinglelabelIntervals, bootstrap_singlelabel
from voc_cls.evaluation.calibration import Calibrated
from voc_cls.evaluation.multilabel import json_number
from voc_cls.evaluation.probabilities import Floats, log_softmax
from voc_cls.evaluation.singlelabel import SinglelabelScores, singlelabel_scores
from voc_cls.evaluation.temperature import Temperature, calibrated


@dataclass(frozen=True)
class SinglelabelAssessment:
    """Accuracies, confusions, calibration and confidence intervals of one model on one split.

    The average precisions are of each class against the rest, the pictures ranked by its probability.
    """

    evaluation: Evaluation
    scores: SinglelabelScores
    calibration: Temperature | None
    calibrated: Calibrated
    intervals: SinglelabelIntervals

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what Evaluation.to_dict has, and more keys beside them; null for what is not defined."""
        values, scores = self.evaluation.to_dict(), self.scores
        for result in scores.classes:
            values["classes"][result.name] |= {
                "ap_interval": self.intervals.classes[result.name].to_list(),
                "precision": json_number(result.precision), "recall": json_number(result.recall),
                "f1": json_number(result.f1), "predicted": result.predicted,
                "ece": json_number(self.calibrated.raw.classes[result.name]),
            }
        best, interval = scores.top_k, self.intervals.top_k
        return values | {
            "task": Task.SINGLE_LABEL.value,
            "accuracy": scores.accuracy,
            **({f"top_{best.k}": best.accuracy} if best else {}),
            "log_loss": scores.log_loss,
            "macro": scores.macro.to_dict(),
            "confusion": scores.confusion.to_dict(),
            "calibration": {"fitted": None if self.calibration is None else self.calibration.to_dict(),
                            **self.calibrated.to_dict()},
            "intervals": self.intervals.to_dict() | (
                {f"top_{best.k}": interval.to_list()} if best and interval else {}),
        }


def assess_singlelabel(dataset: Dataset, logits: Floats, temperature: Temperature | None = None,
                       only: Collection[str] = (), resamples: int = RESAMPLES) -> SinglelabelAssessment:
    """Logits [N, classes] against the labels of `dataset`.

    temperature: what the run fitted to its validation split. only: the classes to report and to take the means over,
    all where it is empty; accuracy, log loss, confusion and calibration are of all pictures in any case, because the
    other classes are what a picture is taken for.
    """
    columns = [column for column, name in enumerate(dataset.classes) if not only or name in only]
    return SinglelabelAssessment(
        evaluation=evaluate(dataset, log_softmax(logits), only),
        scores=singlelabel_scores(dataset, logits, only),
        calibration=temperature,
        calibrated=calibrated(dataset, logits, temperature),
        intervals=bootstrap_singlelabel(dataset, logits, columns, resamples),
    )
