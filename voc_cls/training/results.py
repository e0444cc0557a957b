"""What is written about a model once it has been evaluated: voc-train at its end and voc-eval write it alike."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.augmented import Tta
from voc_cls.evaluation.bootstrap import RESAMPLES
from voc_cls.evaluation.gradcam import heat_maps
from voc_cls.evaluation.predictions import write_predictions
from voc_cls.evaluation.presentation import write_report
from voc_cls.evaluation.probabilities import Floats, probabilities_of
from voc_cls.evaluation.report import Run, Subject
from voc_cls.evaluation.samples import draw_samples
from voc_cls.evaluation.tasks import EVALUATION, Assessment
from voc_cls.files import write_json
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.trained_run import TrainedRun


@dataclass(frozen=True)
class ResultFiles:
    """Where results go; None is not written."""

    json: Path | None = None
    predictions: Path | None = None
    report: Path | None = None
    sheet: Path | None = None
    samples: int = 10
    """Pictures on the sheet."""

    def __iter__(self) -> Iterator[Path]:
        return iter([path for path in (self.json, self.predictions, self.report, self.sheet) if path is not None])


@dataclass(frozen=True)
class Variant:
    """Which weights of the run were evaluated, and how."""

    weights: Literal["best", "last"] = "best"
    tta: Tta = "none"


def files_in(folder: RunFolder) -> ResultFiles:
    """The run's own: evaluation.json, predictions.csv and report.html."""
    return ResultFiles(folder.evaluation, folder.path / "predictions.csv", folder.path / "report.html")


def write_fitted(trained: TrainedRun, validation: Dataset, logits: Floats) -> tuple[Path, ...]:
    """Fits what the task has to fit to the validation logits [N, classes]; returns the files written."""
    return EVALUATION[trained.task].fit(trained.folder.path, validation, logits)


def write_results(trained: TrainedRun, dataset: Dataset, logits: Floats, files: Sequence[ResultFiles],
                  variant: Variant = Variant(), only: Collection[str] = (),
                  resamples: int = RESAMPLES) -> Assessment:
    """Assesses the logits [N, classes] by what the run has fitted, and writes all of `files`.

    only: the classes that table and report are about; all where it is empty. predictions.csv always has all.
    resamples: of the bootstrap.
    """
    probabilities, name = probabilities_of(logits, trained.task), trained.folder.path.resolve().name
    for several in files:
        if several.predictions is not None:
            write_predictions(several.predictions, dataset, probabilities)
        if several.sheet is not None:
            draw_samples(several.sheet, dataset, probabilities, name, several.samples,
                         trained.config["training"]["seed"])
    assessment = EVALUATION[trained.task].assess(trained.folder.path, dataset, logits, only, resamples)
    run = Run(name, trained.config, read_metrics(trained.folder), variant.weights, variant.tta)
    subject = Subject(run, dataset, logits, lambda paths, columns: heat_maps(trained.network, paths, columns))
    for several in files:
        if several.json is not None:
            write_json(several.json, assessment.to_dict() | asdict(variant))
        if several.report is not None:
            write_report(several.report, subject, assessment)
    return assessment


def read_metrics(folder: RunFolder) -> tuple[dict[str, Any], ...]:
    """The lines of metrics.jsonl; nothing where there is none."""
    if not folder.metrics.is_file():
        return ()
    lines = folder.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    return tuple(json.loads(line) for line in lines if line.endswith("\n"))
