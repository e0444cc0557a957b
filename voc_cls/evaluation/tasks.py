"""How models are evaluated, by the task of their data set: a row for each, and nothing else that knows both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from voc_cls.data.dataset import Dataset, Task
from voc_cls.evaluation import calibration, singlelabel, temperature, thresholds
from voc_cls.evaluation.average_precision import Evaluation, evaluate
from voc_cls.evaluation.multilabel_assessment import assess_multilabel
from voc_cls.evaluation.probabilities import Floats
from voc_cls.evaluation.singlelabel_assessment import assess_singlelabel


class Assessment(Protocol):
    """What every assessment has, whatever the task."""

    @property
    def evaluation(self) -> Evaluation:
        """Average precisions, class by class."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, as `voc-eval --json` writes it."""


@dataclass(frozen=True)
class Score:
    """What one validation found. The weights with the highest `rank` are the best; NaN: no telling."""

    rank: float
    figures: Mapping[str, float]
    """For metrics.jsonl, the progress bar and TensorBoard."""
    classes: Mapping[str, float] = field(default_factory=dict)
    """For TensorBoard alone, by its tag."""


@dataclass(frozen=True)
class TaskEvaluation:
    """One task. Logits are float [N, classes]; a run folder is where what was fitted is kept."""

    score: Callable[[Dataset, Floats], Score]
    fit: Callable[[Path, Dataset, Floats], tuple[Path, ...]]
    """(run folder, validation pictures, logits) → the files written."""
    fitted: str
    """Name of a file that `fit` always writes."""
    assess: Callable[[Path, Dataset, Floats, Collection[str], int], Assessment]
    """(run folder, pictures, logits, classes to report or none for all, resamples)."""


def score_multilabel(dataset: Dataset, logits: Floats) -> Score:
    """By the mean average precision."""
    found = evaluate(dataset, logits)
    return Score(found.map, {"val_map": found.map},
                 {f"average_precision/{result.name}": result.ap for result in found.classes if result.positives})


def score_singlelabel(dataset: Dataset, logits: Floats) -> Score:
    """By accuracy; of two that are right equally often the one with the lower log loss is better."""
    found = singlelabel.singlelabel_scores(dataset, logits)
    right = found.accuracy * len(dataset)
    return Score(right + 1 / (2 + found.log_loss),  # at most half a picture
                 {"val_accuracy": found.accuracy, "val_loss": found.log_loss},
                 {f"recall/{result.name}": result.recall for result in found.classes if result.pictures})


def fit_multilabel(run: Path, validation: Dataset, logits: Floats) -> tuple[Path, ...]:
    """Thresholds and, where the validation pictures allow it, calibration."""
    thresholds.write_thresholds(run, thresholds.choose_thresholds(validation, logits))
    fitted = calibration.fit_calibration(validation, logits)
    if fitted is None:
        (run / calibration.FILE).unlink(missing_ok=True)
        return (run / thresholds.FILE,)
    calibration.write_calibration(run, fitted)
    return run / thresholds.FILE, run / calibration.FILE


def fit_singlelabel(run: Path, validation: Dataset, logits: Floats) -> tuple[Path, ...]:
    """The temperature."""
    temperature.write_temperature(run, temperature.fit_temperature(validation, logits), validation.classes)
    return (run / calibration.FILE,)


def _assess_multilabel(run: Path, dataset: Dataset, logits: Floats, only: Collection[str], resamples: int
                       ) -> Assessment:
    return assess_multilabel(dataset, logits, thresholds.read_thresholds(run, dataset.classes),
                             calibration.read_calibration(run, dataset.classes), only, resamples)


def _assess_singlelabel(run: Path, dataset: Dataset, logits: Floats, only: Collection[str], resamples: int
                        ) -> Assessment:
    return assess_singlelabel(dataset, logits, temperature.read_temperature(run, dataset.classes), only, resamples)


EVALUATION: Mapping[Task, TaskEvaluation] = {
    Task.MULTI_LABEL: TaskEvaluation(score_multilabel, fit_multilabel, thresholds.FILE, _assess_multilabel),
    Task.SINGLE_LABEL: TaskEvaluation(score_singlelabel, fit_singlelabel, calibration.FILE, _assess_singlelabel),
}
