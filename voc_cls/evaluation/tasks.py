"""Evaluation by the task of the data set: what is fitted to a validation split, the score of a validation, reports."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from voc_cls.data.dataset import Dataset, Task
from voc_cls.evaluation import calibration
from voc_cls.evaluation.average_precision import average_precisions
from voc_cls.evaluation.bootstrap import RESAMPLES
from voc_cls.evaluation.decisions import singlelabel_scores
from voc_cls.evaluation.objects import by_size, pointing_game, read_boxes
from voc_cls.evaluation.predictions import Floats
from voc_cls.evaluation.report.multilabel import multilabel_report
from voc_cls.evaluation.report.page import HeatMaps, Report, RunDetails
from voc_cls.evaluation.report.singlelabel import singlelabel_report
from voc_cls.files import write_json


@dataclass(frozen=True)
class Score:
    """The result of one validation. The weights with the highest `rank` are the best; NaN: not comparable."""

    rank: float
    metrics: Mapping[str, float]
    """For metrics.jsonl, the progress bar and TensorBoard."""
    per_class: Mapping[str, float] = field(default_factory=dict)
    """For TensorBoard alone, by tag."""


@dataclass(frozen=True)
class Fitted:
    """What is fitted to the validation split of a run; None: nothing was."""

    thresholds: calibration.Thresholds | None = None
    """Multi-label only."""
    calibration: calibration.Calibration | None = None


def score(validation: Dataset, logits: Floats) -> Score:
    """Multi-label: mean average precision. Single-label: accuracy, and of equal ones the lower log loss is better."""
    if validation.task is Task.MULTI_LABEL:
        result = average_precisions(validation, logits)
        return Score(result.map, {"val_map": result.map},
                     {f"average_precision/{of_class.name}": of_class.ap for of_class in result.classes
                      if of_class.positives})
    scores = singlelabel_scores(validation, logits)
    tie_break = 1 / (2 + scores.log_loss) / len(validation)  # at most half a picture
    return Score(scores.accuracy + tie_break,
                 {"val_accuracy": scores.accuracy, "val_loss": scores.log_loss},
                 {f"recall/{of_class.name}": of_class.recall for of_class in scores.classes if of_class.positives})


def fit(validation: Dataset, logits: Floats) -> Fitted:
    """Thresholds (multi-label) and calibration, where the validation pictures allow it, from logits [N, classes]."""
    chosen = calibration.choose_thresholds(validation, logits) if validation.task is Task.MULTI_LABEL else None
    return Fitted(chosen, calibration.fit_calibration(validation, logits))


def write_fitted(run: Path, fitted: Fitted, labels: Collection[str]) -> tuple[Path, ...]:
    """Writes thresholds.json and calibration.json into the run folder, each whole or not at all; returns the files."""
    contents = {run / calibration.THRESHOLDS_FILE: fitted.thresholds and asdict(fitted.thresholds),
                run / calibration.CALIBRATION_FILE: fitted.calibration and {"classes": [*labels]} | asdict(
                    fitted.calibration)}
    for file, values in contents.items():
        if values:
            write_json(file, values)
        else:
            file.unlink(missing_ok=True)  # of an earlier fit
    return tuple(file for file, values in contents.items() if values)


def read_fitted(run: Path, labels: Collection[str], task: Task) -> Fitted:
    """What the run folder has; RunError if a file is not of this task and these labels."""
    names = tuple(labels)
    return Fitted(calibration.read_thresholds(run, names) if task is Task.MULTI_LABEL else None,
                  calibration.read_calibration(run, names))


def evaluate(dataset: Dataset, logits: Floats, fitted: Fitted = Fitted(), classes: Collection[str] = (),
             resamples: int = RESAMPLES, run: RunDetails | None = None, heat_maps: HeatMaps | None = None,
             pointing: bool = False) -> Report:
    """Evaluates a model's logits [N, classes] on a labelled split, by the task of the data set.

    By default thresholds are 0.5 and nothing is calibrated. classes: those to report and to average over; empty: all.
    Single-label: accuracy, log loss, confusion and calibration are of all classes in any case. resamples: of the
    bootstrap for the 95 % intervals. run, heat_maps: how the model was made, and Grad-CAM, for the HTML page. pointing:
    whether to compare the boxes of objects, where the data set has some, with the heat maps.
    """
    report: Report = (singlelabel_report(dataset, logits, fitted.calibration, classes, resamples)
                      if dataset.task is Task.SINGLE_LABEL else
                      multilabel_report(dataset, logits, fitted.thresholds, fitted.calibration, classes, resamples))
    report = replace(report, run=run, heat_maps=heat_maps)
    if (boxes := read_boxes(dataset, report.dataset.classes)) is None:
        return report
    found = pointing_game(report.dataset, boxes, heat_maps) if pointing and heat_maps else None
    return replace(report, sizes=by_size(report.dataset, boxes, report.logits, resamples), pointing=found)
