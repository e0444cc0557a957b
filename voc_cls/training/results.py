"""What is written about a model once it has been evaluated: voc-train at its end and voc-eval write it alike."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.assess import Assessment, assess
from voc_cls.evaluation.augmented import Tta
from voc_cls.evaluation.bootstrap import RESAMPLES
from voc_cls.evaluation.calibration import FILE as CALIBRATION_FILE
from voc_cls.evaluation.calibration import fit_calibration, write_calibration
from voc_cls.evaluation.gradcam import heat_maps
from voc_cls.evaluation.multilabel import Floats, probabilities_of
from voc_cls.evaluation.predictions import write_predictions
from voc_cls.evaluation.report import Run, write_report
from voc_cls.evaluation.thresholds import FILE as THRESHOLDS_FILE
from voc_cls.evaluation.thresholds import choose_thresholds, write_thresholds
from voc_cls.files import write_json
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.trained_run import TrainedRun


@dataclass(frozen=True)
class ResultFiles:
    """Where results go; None is not written."""

    json: Path | None = None
    predictions: Path | None = None
    report: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        return iter([path for path in (self.json, self.predictions, self.report) if path is not None])


@dataclass(frozen=True)
class Variant:
    """Which weights of the run were evaluated, and how."""

    weights: Literal["best", "last"] = "best"
    tta: Tta = "none"


def files_in(folder: RunFolder) -> ResultFiles:
    """The run's own: evaluation.json, predictions.csv and report.html."""
    return ResultFiles(folder.evaluation, folder.path / "predictions.csv", folder.path / "report.html")


def write_fitted(trained: TrainedRun, validation: Dataset, logits: Floats) -> tuple[Path, ...]:
    """Fits thresholds and calibration to the validation logits [N, classes]; returns the files written."""
    folder = trained.folder.path
    write_thresholds(folder, choose_thresholds(validation, logits))
    calibration = fit_calibration(validation, logits)
    if calibration is None:
        (folder / CALIBRATION_FILE).unlink(missing_ok=True)
        return (folder / THRESHOLDS_FILE,)
    write_calibration(folder, calibration)
    return folder / THRESHOLDS_FILE, folder / CALIBRATION_FILE


def write_results(trained: TrainedRun, dataset: Dataset, logits: Floats, files: Sequence[ResultFiles],
                  variant: Variant = Variant(), only: Collection[str] = (),
                  resamples: int = RESAMPLES) -> Assessment:
    """Assesses the logits [N, classes] by the run's thresholds and calibration, and writes all of `files`.

    only: the classes that table and report are about; all where it is empty. predictions.csv always has all.
    resamples: of the bootstrap.
    """
    for several in files:
        if several.predictions is not None:
            write_predictions(several.predictions, dataset, probabilities_of(logits))
    columns = [column for column, name in enumerate(dataset.classes) if not only or name in only]
    dataset = dataset.only(columns)
    logits = logits[:, columns]
    assessment = assess(dataset, logits, trained.thresholds(), trained.calibration(), resamples=resamples)
    run = Run(trained.folder.path.resolve().name, trained.config, read_metrics(trained.folder),
              variant.weights, variant.tta)
    for several in files:
        if several.json is not None:
            write_json(several.json, assessment.to_dict() | asdict(variant))
        if several.report is not None:
            write_report(several.report, run, dataset, logits, assessment,
                         lambda paths, shown: heat_maps(trained.network, paths, [columns[column] for column in shown]))
    return assessment


def read_metrics(folder: RunFolder) -> tuple[dict[str, Any], ...]:
    """The lines of metrics.jsonl; nothing where there is none."""
    if not folder.metrics.is_file():
        return ()
    lines = folder.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    return tuple(json.loads(line) for line in lines if line.endswith("\n"))
