"""A finished run, opened again: its network with its weights, its labels, its config; the results that it writes, alone
or with other runs as one model; and the probable label errors among its images, judged on the features that its network
has before the head."""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset, Task, html_table
from voc_cls.data.feature_cache import CachedRows, FeatureCache, vectors
from voc_cls.data.load import read_dataset
from voc_cls.data.pipeline import image_batches, naming_broken_images
from voc_cls.data.preprocessing import preprocess
from voc_cls.data.stratify import AUTO
from voc_cls.errors import RunError, UsageError, reason, shown
from voc_cls.evaluation import predictions
from voc_cls.evaluation.bootstrap import RESAMPLES
from voc_cls.evaluation.calibration import Calibration, Thresholds, default_thresholds, read_thresholds
from voc_cls.evaluation.contact_sheet import draw_samples
from voc_cls.evaluation.gradcam import explanations, heat_maps
from voc_cls.evaluation.objects import read_boxes
from voc_cls.evaluation.predictions import Floats, Predictions, probabilities_of
from voc_cls.evaluation.report.page import Report, RunDetails
from voc_cls.evaluation.suspects import Suspects, find_suspects
from voc_cls.evaluation.tasks import Fitted, evaluate, fit, read_fitted
from voc_cls.files import cache_folder, file_digests, write_json
from voc_cls.model_metadata import Tta, Views
from voc_cls.nets.explained import explained
from voc_cls.nets.network import Network, build_network
from voc_cls.prediction import Prediction
from voc_cls.training.backbone import BATCH_SIZE, View, feature_rows, frozen_backbone
from voc_cls.training.callbacks import PredictionProgress
from voc_cls.training.config import DatasetConfig, recorded_dataset
from voc_cls.training.devices import inference_precision, policy
from voc_cls.training.run_folder import ResultFiles, RunFolder, images_digest
from voc_cls.training.splits import Splits, check_same_classes, read_splits
from voc_cls.training.trainable_part import finite


class History(list[dict[str, Any]]):
    """Records of metrics.jsonl: step, seconds, lr, loss and the metrics of the validation; a table in Jupyter."""

    def _repr_html_(self) -> str:
        def text(value: float | None) -> str:
            return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"

        columns = list(dict.fromkeys(name for record in self for name in record))
        return html_table("history", columns, [[text(record.get(name)) for name in columns] for record in self])


@dataclass(frozen=True)
class TrainedRun:
    """`network` holds weights of the run in `folder`; `config` is its config.yaml."""

    folder: RunFolder
    config: dict[str, Any]
    labels: tuple[str, ...]
    network: Network
    weights: Literal["best", "last"] = "best"
    """Which of the run's weights the network has."""
    report: Report | None = None
    """Of the evaluation split; only where the run has just been trained."""
    calibration: Calibration | None = None
    """What `network` has in place of its own logits; None: they are its own."""

    def __repr__(self) -> str:
        return (f"run {self.folder.path}: {self.network.spec.title}, head {self.network.head}, {len(self.labels)} "
                f"classes, {self.config['training']['steps']:,} steps")

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self.history._repr_html_()}"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.path.resolve().name

    def predict(self, paths: Sequence[Path | str], top_k: int = 0, batch_size: int = BATCH_SIZE) -> Predictions:
        """The probabilities of every label for some image files.

        Args:
            paths: The images. DataError names one that cannot be decoded.
            top_k: How many labels of each image the result shows; 0: all.
            batch_size: Images that the network sees at once.
        """
        files = tuple(map(Path, paths))
        probabilities = probabilities_of(self.logits(files, batch_size=batch_size), self.task)
        return Predictions(files, self.labels, probabilities, self.task, self.name, top_k)

    def predict_arrays(self, images: Sequence[npt.NDArray[Any]], batch_size: int = BATCH_SIZE) -> Floats:
        """The probabilities, float32 [N, classes], for images in memory.

        Args:
            images: Each [height, width, 3] RGB, uint8 or float 0-255, of any size.
            batch_size: Images that the network sees at once.
        """
        preprocessing = self.network.spec.preprocessing
        inputs = feature_rows(np.stack([preprocess(image, preprocessing) for image in images]), batch_size)
        logits = np.asarray(self.network.model.predict(inputs, verbose=0), np.float32)
        return probabilities_of(finite(logits), self.task)

    def logits(self, paths: Sequence[Path], title: str = "predict", tta: Tta = "none", batch_size: int = BATCH_SIZE
               ) -> npt.NDArray[np.float32]:
        """As `predict`: logits, float32 [N, classes], the mean over the views of `tta`, under a bar called `title`."""
        preprocessing = self.network.spec.preprocessing
        views = Views.of(tta, preprocessing.size)
        model = self.network.at_any_size() if len(views.sizes) > 1 else self.network.model
        outputs = []
        progress = PredictionProgress(title, len(paths) * views.number)
        with progress.bar, naming_broken_images(paths):
            for size in views.sizes:
                images = max(1, batch_size * preprocessing.size**2 // size**2)  # in the memory of a batch of its own
                batches = image_batches(paths, images, replace(preprocessing, size=size), views.mirrored)
                steps = -(-len(paths) * (1 + views.mirrored) // images)  # without it Keras warns
                logits = model.predict(batches, verbose=0, callbacks=[progress], steps=steps)
                outputs.append(np.asarray(logits, np.float32).reshape(len(paths), -1, len(self.labels)))
        return finite(np.concatenate(outputs, axis=1).mean(axis=1))

    def explain(self, paths: Sequence[Path | str], top_k: int = 0) -> list[Prediction]:
        """As `predict`: for each image its labels with heat maps, and its embedding."""
        outputs = explanations(explained(self.network), self.network.spec.preprocessing, list(map(Path, paths)))
        return [replace(Prediction.from_probabilities(row, self.labels, self.name, self.task.activation, top_k, maps),
                        embedding=embedding) for logits, *more in outputs
                for row, maps, embedding in zip(probabilities_of(logits, self.task), *more, strict=True)]

    def heat_maps(self, paths: Sequence[Path], labels: Sequence[str]) -> npt.NDArray[np.float32]:
        """Grad-CAM of each label, float32 [n, h, w] in 0-1, under a progress bar."""
        columns = list(map(self.labels.index, labels))
        progress = PredictionProgress("heat maps", len(paths))
        with progress.bar:
            return heat_maps(self.network, paths, columns, lambda number: progress.bar.advance(progress.task, number))

    @property
    def history(self) -> History:
        """The metrics after every interval: a list of records, for pandas.DataFrame(run.history)."""
        return History(self.folder.read_metrics())

    @property
    def task(self) -> Task:
        """The task of the data set that the run was trained on."""
        recorded = self.config["provenance"].get("task", Task.MULTI_LABEL.value)
        if recorded not in list(Task):
            raise RunError(f"{self.folder.config}: provenance.task is {shown(recorded)}, expected "
                           f"{' or '.join(Task)}; repeat the run")
        return Task(recorded)

    def thresholds(self) -> Thresholds:
        """Of a multi-label run: those chosen on its validation split; without such a split 0.5 for every class."""
        thresholds = read_thresholds(self.folder.path, self.labels) or default_thresholds(self.labels)
        return thresholds if self.calibration is None else self.calibration.moved(thresholds)

    def calibrated(self) -> TrainedRun:
        """The run with the calibration of its validation split in its network: logits, probabilities and thresholds are
        calibrated, and decide as before. UsageError if none was fitted."""
        fitted = read_fitted(self.folder.path, self.labels, self.task).calibration
        if fitted is None:
            raise UsageError(f"`calibrated`: {self.folder.path} has no calibration.json, which is fitted to a "
                             "validation split; train with `val_split`, or omit `calibrated`")
        return replace(self, network=self.network.rescaled(1 / fitted.temperature, fitted.offset), calibration=fitted)


def open_run(path: Path, precision: str = "float32", which: Literal["best", "last"] = "best") -> TrainedRun:
    """Opens the run folder `path` with its best or last weights; RunError if it is not one, or was not finished."""
    folder = RunFolder(path)
    config, labels = folder.read_config(), folder.read_labels()
    chosen = config["network"]
    network = build_network(chosen["net"], chosen["head"], len(labels), policy(precision), chosen["image_size"],
                            chosen.get("normalisation", "auto"), chosen.get("cut"), chosen.get("resize", "bilinear"))
    load_weights(network, folder, which)
    return TrainedRun(folder, config, labels, network, which)


def load_weights(network: Network, folder: RunFolder, which: Literal["best", "last"]) -> None:
    """Gives `network` the best or last weights of a run; RunError if it is not finished, or they do not fit."""
    for weights in (folder.last, folder.best):
        if not weights.is_file():
            raise RunError(f"{folder.path}: the run is not finished, it has no {weights.name}; continue with "
                           f"`resume` and `out` {folder.path}")
    weights = folder.best if which == "best" else folder.last
    try:
        network.model.load_weights(weights)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{weights}: not the weights of this run ({reason(error)}); repeat the run") from error


def evaluate_run(trained: TrainedRun, dataset: Dataset, tta: Tta = "none", classes: Collection[str] = (),
                 resamples: int = RESAMPLES, files: Sequence[ResultFiles] = (), logits: Floats | None = None,
                 pointing: bool = False) -> Report:
    """`voc_cls.evaluate`, with the thresholds and the calibration that the run chose on its validation split.

    Args:
        files: Written too; predictions.csv always has all classes.
        logits: float [N, classes] of the run's network, where they are known already.
        pointing: Whether to compare the heat maps of all labels with the boxes; UsageError without boxes.
    """
    check_dataset(trained, dataset, classes)
    if pointing and read_boxes(dataset, trained.labels) is None:
        raise UsageError(f"`pointing`: {dataset.name} has no boxes, as VOC, COCO and Label Studio can have; omit it")
    if any(results.table for results in files):
        predictions.check_binary(dataset)
    if logits is None:
        logits = trained.logits(dataset.paths, "evaluate", tta)
    run = RunDetails(trained.name, trained.config, tuple(trained.folder.read_metrics()), trained.weights, tta)
    fitted = (read_fitted(trained.folder.path, trained.labels, trained.task) if trained.calibration is None else
              Fitted(trained.thresholds()))
    report = evaluate(dataset, logits, fitted, classes, resamples, run, trained.heat_maps, pointing)
    write_results(files, report, dataset, logits, trained.name, trained.config["training"]["seed"],
                  {"weights": trained.weights, "tta": tta})
    return report


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
    report = evaluate(dataset, logits, fitted, classes, resamples)
    write_results(files, report, dataset, logits, f"{len(names)} runs", 0,
                  {"weights": trained.weights, "tta": tta, "runs": names})
    return report


def write_results(files: Sequence[ResultFiles], report: Report, dataset: Dataset, logits: Floats, name: str, seed: int,
                  about: dict[str, Any]) -> None:
    """Writes what `files` asks for.

    Args:
        logits: Of all classes, [N, classes].
        name: Of the model, for people.
        seed: Of the samples on a sheet.
        about: Added to the JSON file.
    """
    probabilities = probabilities_of(logits, dataset.task)
    for results in files:
        if results.predictions is not None:
            predictions.write_predictions(results.predictions, dataset, probabilities)
        if results.table is not None:
            predictions.write_binary_table(results.table, dataset, probabilities)
        if results.sheet is not None:
            draw_samples(results.sheet, dataset, probabilities, name, results.samples, seed)
        if results.json is not None:
            write_json(results.json, report.to_dict() | about)
        if results.report is not None:
            report.to_html(results.report)


def check_dataset(trained: TrainedRun, dataset: Dataset, classes: Collection[str] = ()) -> None:
    """UsageError if the run has other classes than `dataset` or than `classes` names, or another task."""
    if dataset.classes != trained.labels:
        raise UsageError(f"{dataset.name}: has the classes {', '.join(dataset.classes)}, the run "
                         f"{', '.join(trained.labels)}; evaluate on a data set with the run's classes")
    if dataset.task is not trained.task:
        raise UsageError(f"{dataset.name}: is a {dataset.task.value} data set, the run was trained on a "
                         f"{trained.task.value} one; evaluate on a {trained.task.value} data set")
    for name in classes:
        if name not in trained.labels:
            raise UsageError(f"`classes` {name}: not a class of the run; choose from {', '.join(trained.labels)}")


def run_suspects(trained: TrainedRun, split: str | None = None, folds: int = 5, group: str | None = None,
                 cache_dir: Path | None = None, report: Callable[[str], object] = lambda _: None) -> Suspects:
    """Ranks the images of a run by how probably they are labelled wrongly; as `find_suspects`, `run_images` and
    `run_features`. group: by default the run's."""
    dataset, group = run_images(trained, split), group or trained.config["dataset"].get("group", AUTO)
    dataset.grouping(group)  # an error comes before the features are computed
    features = run_features(trained, dataset, cache_dir, report)
    suspects = find_suspects(dataset, features, folds, trained.config["training"]["seed"], group)
    trainable = trained.config["network"]["trainable"]
    note = f"the run trained {trainable}, so its features may have seen these labels and hide errors"
    return suspects if trainable == "head" else replace(suspects, notes=(*suspects.notes, note))


def run_images(trained: TrainedRun, split: str | None = None) -> Dataset:
    """A split of the run's data set, by default all that it trained and, with `val_split` auto, validated on."""
    recorded = run_dataset(trained)
    dataset = read_dataset(recorded.data, recorded.root, split or recorded.train_split or "", recorded.difficult,
                           recorded.classes)
    check_dataset(trained, dataset)
    return dataset


def run_splits(trained: TrainedRun) -> Splits:
    """The images that the run was trained, validated and evaluated on; DataError where they are not there any more."""
    return read_splits(run_dataset(trained), trained.config["training"]["seed"])


def run_dataset(trained: TrainedRun) -> DatasetConfig:
    """What the run's images were read by; UsageError where that cannot be done again."""
    reasons = trained.config["provenance"].get("not_repeatable", {})
    if "dataset" in reasons:
        raise UsageError(f"{trained.folder.path}: {reasons['dataset']}; use it from Python")
    return recorded_dataset(trained.config["dataset"])


def run_features(trained: TrainedRun, dataset: Dataset, cache_dir: Path | None, report: Callable[[str], object]
                 ) -> Floats:
    """float32 [N, D]: what enters the head, of a grid the mean, from the cache as far as it is there.

    cache_dir: folder for caches; None: the user's. report: is told where the features come from.
    """
    return vectors(_head_inputs(trained, dataset.paths, file_digests(dataset.paths), cache_dir, report))


def _head_inputs(trained: TrainedRun, paths: Sequence[Path], digests: Sequence[str], cache_dir: Path | None,
                 report: Callable[[str], object]) -> CachedRows:
    """What enters the head for images with these digests, [N, …]; otherwise as `run_features`."""
    precision = inference_precision(trained.config["compute"]["inference_precision"])
    engine = trained.config["provenance"].get("features", {}).get("engine", "keras")
    backbone = frozen_backbone(trained.network, trained.network.scopes[-1], precision)
    backbone = backbone.on(engine if engine in backbone.engines else "keras")
    limit_gb = trained.config["compute"]["cache_gb"] or np.inf  # a run that kept no features may keep these
    views = [View(path, digest) for path, digest in zip(paths, digests, strict=True)]
    with naming_broken_images(paths):
        return backbone.features(views, FeatureCache(cache_folder(cache_dir) / "arrays", limit_gb, report))


def run_predictions(trained: TrainedRun, images: Mapping[str, Path], cache_dir: Path | None,
                    report: Callable[[str], object]) -> tuple[Floats, Predictions]:
    """As `run_features`, of images by their digests; and what the head predicts for them."""
    rows = _head_inputs(trained, tuple(images.values()), tuple(images), cache_dir, report)
    head = trained.network.cut(trained.network.scopes[-1])[1]
    logits = np.asarray(head.predict(feature_rows(rows, BATCH_SIZE), verbose=0), np.float32)
    return vectors(rows), Predictions(tuple(images.values()), trained.labels,
                                      probabilities_of(finite(logits), trained.task), trained.task, trained.name)
