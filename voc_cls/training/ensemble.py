"""Several runs evaluated as one model, by the mean of their logits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from voc_cls.data.boxes import read_boxes
from voc_cls.data.dataset import Dataset
from voc_cls.errors import UsageError
from voc_cls.evaluation import predictions
from voc_cls.evaluation.report.page import Report
from voc_cls.evaluation.tasks import Fitted, evaluate, fit
from voc_cls.evaluation.tta import Tta
from voc_cls.training.run_folder import ResultFiles, images_digest
from voc_cls.training.splits import check_same_classes
from voc_cls.training.trained_run import TrainedRun, check_dataset, write_results


def same_pictures(runs: Sequence[Path], datasets: Sequence[Dataset]) -> Dataset:
    """What all `runs` are to be evaluated on; UsageError where `datasets`, one for each, are not the same."""
    (first, *others), (dataset, *more) = runs, datasets
    for run, other in zip(others, more, strict=True):
        check_same_classes(str(run), other, str(first), dataset)
        if images_digest(other) != images_digest(dataset):
            raise UsageError(f"{run}: its {other.name} has other pictures or labels than {dataset.name} of {first}; "
                             "pass the same `root` and `split` for both")
    return dataset


def evaluate_together(runs: Iterable[TrainedRun], dataset: Dataset, validations: Sequence[Dataset | None], tta: Tta,
                      classes: Collection[str], resamples: int, files: Sequence[ResultFiles]) -> Report:
    """As `evaluate_run`, of the mean of the logits of several runs, which are opened one after the other.

    Args:
        validations: What each run was validated on. Where that is the same for all, thresholds and calibration are
            fitted to the mean of the logits on it; otherwise one run has trained on what another one validated on, so
            that thresholds are 0.5.
    """
    if any(results.table for results in files):
        predictions.check_binary(dataset)
    digests = {None if split is None else images_digest(split) for split in validations}
    validation = validations[0] if len(digests) == 1 else None
    names, outputs, fitted_outputs = [], [], []
    for trained in runs:
        check_dataset(trained, dataset, classes)
        names.append(str(trained.folder.path))
        outputs.append(trained.logits(dataset.paths, f"evaluate {trained.name}", tta))
        if validation is not None:
            fitted_outputs.append(trained.logits(validation.paths, f"validate {trained.name}"))
    logits = np.mean(outputs, axis=0)
    fitted = Fitted() if validation is None else fit(validation, np.mean(fitted_outputs, axis=0))
    boxes = read_boxes(dataset, [name for name in dataset.classes if not classes or name in classes])
    report = evaluate(dataset, logits, fitted, classes, resamples, boxes=boxes)
    write_results(files, report, dataset, logits, f"{len(names)} runs", 0,
                  {"weights": trained.weights, "tta": tta, "runs": names})
    return report
