"""A finished run, opened again: its network with its weights, its labels, its config; and the results it writes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.pipeline import image_batches, naming_broken_images
from voc_cls.errors import RunError
from voc_cls.evaluation.augmented import Tta, at_any_size, views_of
from voc_cls.evaluation.bootstrap import RESAMPLES
from voc_cls.evaluation.gradcam import heat_maps
from voc_cls.evaluation.predictions import write_predictions
from voc_cls.evaluation.presentation import write_report
from voc_cls.evaluation.probabilities import Floats, probabilities_of
from voc_cls.evaluation.report import Run, Subject
from voc_cls.evaluation.samples import draw_samples
from voc_cls.evaluation.tasks import EVALUATION, Assessment
from voc_cls.evaluation.thresholds import Thresholds, default_thresholds, read_thresholds
from voc_cls.files import write_json
from voc_cls.nets.network import Network, build_network
from voc_cls.training.backbone import BATCH_SIZE
from voc_cls.training.callbacks import PredictionProgress
from voc_cls.training.devices import policy
from voc_cls.training.fit import finite
from voc_cls.training.run_folder import RunFolder


@dataclass(frozen=True)
class TrainedRun:
    """`network` holds weights of the run in `folder`; `config` is its config.yaml."""

    folder: RunFolder
    config: dict[str, Any]
    labels: tuple[str, ...]
    network: Network

    def logits(self, paths: Sequence[Path], title: str = "predict", tta: Tta = "none") -> npt.NDArray[np.float32]:
        """float32 [N, classes] for the pictures at `paths`, with a progress bar on a terminal.

        tta: the views of each picture whose logits are averaged. DataError names a picture that cannot be decoded.
        """
        preprocessing = self.network.spec.preprocessing
        views = views_of(tta, preprocessing.size)
        model = self.network.model if views.sizes == (preprocessing.size,) else at_any_size(self.network)
        outputs = []
        broken = naming_broken_images(paths, preprocessing)
        with PredictionProgress(title, len(paths) * views.number) as progress, broken:
            for size in views.sizes:
                batches = image_batches(paths, BATCH_SIZE, replace(preprocessing, size=size), views.mirrored)
                steps = -(-len(paths) * (1 + views.mirrored) // BATCH_SIZE)  # Keras warns where it has to find out
                logits = model.predict(batches, verbose=0, callbacks=[progress], steps=steps)
                outputs.append(np.asarray(logits, np.float32).reshape(len(paths), -1, len(self.labels)))
        return finite(np.concatenate(outputs, axis=1).mean(axis=1))

    @property
    def task(self) -> Task:
        """That of the data set it was trained on; runs before 0.4.0 do not say, they were all multi-label."""
        recorded = self.config["provenance"].get("task", Task.MULTI_LABEL.value)
        if recorded not in list(Task):
            raise RunError(f"{self.folder.config}: provenance.task is {recorded!r}, expected "
                           f"{' or '.join(Task)}; repeat the run")
        return Task(recorded)

    def thresholds(self) -> Thresholds:
        """Of a multi-label run: what it chose on its validation split; 0.5 for every class where it had none."""
        return read_thresholds(self.folder.path, self.labels) or default_thresholds(self.labels)


def open_run(path: Path, precision: str = "float32", which: Literal["best", "last"] = "best") -> TrainedRun:
    """Opens the run folder `path` with its best or last weights; RunError where it is none, or was not finished."""
    folder = RunFolder(path)
    config = folder.read_config()
    labels = folder.read_labels()
    chosen = config["network"]
    network = build_network(chosen["net"], chosen["head"], len(labels), policy(precision), chosen["image_size"],
                            chosen.get("normalisation", "auto"))
    load_weights(network, folder, which)
    return TrainedRun(folder, config, labels, network)


def load_weights(network: Network, folder: RunFolder, which: Literal["best", "last"]) -> None:
    """Gives `network` the best or last weights of a finished run; RunError where it is not, or they do not fit."""
    for weights in (folder.last, folder.best):
        if not weights.is_file():
            raise RunError(f"{folder.path}: the run is not finished, it has no {weights.name}; go on with voc-train "
                           f"--resume --out {folder.path}")
    weights = folder.best if which == "best" else folder.last
    try:
        network.model.load_weights(weights)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{weights}: not the weights of this run ({' '.join(str(error).split())[:200]})") from error


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
