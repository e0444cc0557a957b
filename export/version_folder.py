"""From a run folder to `models/<name>/<version>/`: its forms are written aside, verified, then renamed into place."""

from __future__ import annotations

import os
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

import keras
from rich.console import Console

from export.metadata import VerifiedForm, write_metadata
from export.options import ExportOptions, Form
from export.savedmodel import write_savedmodel
from export.verify import Predictor, logits_of, result_of, verify_predictor, verify_savedmodel
from voc_cls.console import EXTRAS, quiet_stderr, say
from voc_cls.data.dataset import Dataset, Task
from voc_cls.errors import DataError, ExportError, UsageError
from voc_cls.model_metadata import Views, versions
from voc_cls.stores import connected, masked
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.splits import Splits
from voc_cls.training.tracking import RECORD, Tracker
from voc_cls.training.trained_run import TrainedRun, open_run, run_splits
from voc_cls.version import __version__

ONNX_MODEL = "model.onnx"
"""The name that Triton looks for."""


def export_run(run: TrainedRun | Path | str, model_dir: Path | str, version: int | None = None,
               console: Console | None = None, options: ExportOptions | None = None) -> Path:
    """`voc_cls.export`, with the result printed on `console`. The version appears whole or not at all."""
    folder, models = run.folder.path if isinstance(run, TrainedRun) else Path(run), Path(model_dir)
    options = options or ExportOptions()
    options.check()
    portable = set(options.format) != {"savedmodel"}
    missing = next((package for package in EXTRAS["export"] if find_spec(package) is None), None)
    if portable and missing is not None:  # said now, not after minutes
        raise ModuleNotFoundError(f"no package {missing}: pip install \"voc-cls[export]\"", name=missing)
    if keras.backend.backend() != "tensorflow":
        raise UsageError(f"KERAS_BACKEND={keras.backend.backend()}: a SavedModel is exported by TensorFlow; set "
                         "KERAS_BACKEND=tensorflow before Keras is imported")
    name = models.resolve().name
    if models.exists() and not models.is_dir():
        raise ExportError(f"{models}: is a file; expected the folder of the model, which holds its versions")
    existing = versions(models)
    number = max(existing, default=0) + 1 if version is None else version
    target = models / str(number)
    if number < 1:
        raise UsageError(f"`version` {number}: must be at least 1")
    if number in existing:
        raise ExportError(f"{existing[number]}: exists already and is never overwritten; omit `version` for the next "
                          "one")
    trained = open_run(folder).calibrated() if options.calibrated else open_run(folder)
    views = Views.of(options.tta, trained.network.spec.preprocessing.size)
    splits, unmeasured = None, ""
    if options.precision == "int8" or (portable and options.evaluate):
        try:
            splits = run_splits(trained)
        except (DataError, UsageError) as error:
            if options.precision == "int8":  # which nothing can be done for without them
                raise
            unmeasured = f"\n  the forms were not evaluated: {error}"
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".aside-", dir=models) as parent:
            aside = Path(parent) / "model"
            forms: dict[Form, VerifiedForm] = {}
            if "savedmodel" in options.format:
                write_savedmodel(aside, trained, name, views)
                forms["savedmodel"] = VerifiedForm(verify_savedmodel(aside, trained, options.tta))
            if portable:
                aside.mkdir(exist_ok=True)
                forms |= _write_portable(aside, trained, splits, options, views)
            write_metadata(aside, name, number, trained, forms, views)
            os.rename(aside, target)
    except OSError as error:
        raise ExportError(f"{models}: cannot be written ({error.strerror or error}); nothing was exported") from error
    if console is not None:
        lines = [f"{target}: exported and verified", *(_text(form, made, trained.task) for form, made in forms.items())]
        say(console, "\n  ".join(lines) + unmeasured)
    return target


def register_run(run: Path, name: str, console: Console, options: ExportOptions) -> None:
    """Exports a run into MLflow's registry, where the run is tracked; one that is not is sent there. DownloadError."""
    tracker = Tracker(RunFolder(run), None if (run / RECORD).is_file() else "auto")
    with connected(tracker.uri) as mlflow:
        existing = mlflow.search_model_versions(filter_string=f"name='{name}'")
    number = max((int(version.version) for version in existing), default=0) + 1  # for the card
    extra = "serve" if "savedmodel" in options.format else "serve-openvino"
    with tempfile.TemporaryDirectory() as aside:
        export_run(run, folder := Path(aside, name), number, None, options)
        if tracker.run_id is None:
            tracker.update("FINISHED")
        with (connected(tracker.uri) as mlflow, mlflow.start_run(tracker.run_id), quiet_stderr(),
              warnings.catch_warnings(action="ignore")):  # of missing examples, which would be run
            logged = mlflow.pyfunc.log_model(
                name=name, registered_model_name=name, loader_module="voc_cls.loaded_model", data_path=str(folder),
                signature=mlflow.models.ModelSignature(mlflow.types.Schema([mlflow.types.ColSpec("binary")])),
                pip_requirements=[f"voc-cls[{extra},mlflow]=={__version__}"])
    console.print(f"models:/{name}/{logged.registered_model_version}: exported, verified and registered at "
                  f"{masked(tracker.uri)}", highlight=False, markup=False, soft_wrap=True)


def _write_portable(folder: Path, trained: TrainedRun, splits: Splits | None, options: ExportOptions, views: Views
                    ) -> dict[Form, VerifiedForm]:
    """Writes the forms that run without TensorFlow into `folder`, in a temporary one; returns how each was verified.

    splits: the run's images, for int8, and for the result of each form; None: it is not measured.
    """
    from export.onnx import onnx_predictor, write_onnx
    from export.openvino import MODEL, openvino_predictor, read_model, write_int8, write_model

    forms: dict[Form, VerifiedForm] = {}
    evaluated = splits.eval if splits is not None and options.evaluate else None
    # OpenVINO reads this graph too, whether or not it is part of the export
    graph = (folder if "onnx" in options.format else folder.parent) / ONNX_MODEL
    write_onnx(graph, trained.network, trained.task)
    if "onnx" in options.format:
        forms["onnx"] = _verified(graph, onnx_predictor(graph), trained, evaluated)
    if options.precision == "int8" and splits is not None:
        forms["openvino"] = write_int8(graph, folder, trained, splits, options)
    elif "openvino" in options.format:
        path = write_model(read_model(graph), folder)
        forms["openvino"] = _verified(path, openvino_predictor(path), trained, evaluated)
    if "openvino" in forms:
        for size in views.sizes[1:]:
            verify_predictor(folder / MODEL, openvino_predictor(folder / MODEL, size), trained,
                             options.precision == "float32", size)
    return forms


def _verified(path: Path, predict: Predictor, trained: TrainedRun, evaluated: Dataset | None) -> VerifiedForm:
    difference = verify_predictor(path, predict, trained)
    if evaluated is None:
        return VerifiedForm(difference)
    logits = logits_of(predict, evaluated, trained.network.spec.preprocessing, f"evaluate {path.name}")
    return VerifiedForm(difference, result=result_of(evaluated, logits))


def _text(name: Form, form: VerifiedForm, task: Task) -> str:
    """How a form was verified, in a line."""
    parts = [f"{name}, {form.precision}: probabilities within {form.largest_difference:.1e} of the trained network's"]
    if form.result is not None:
        measure = "mean AP" if task is Task.MULTI_LABEL else "accuracy"
        parts.append(f"{measure} {form.result:.4f} on the evaluation split")
    if form.change:
        parts += [form.change, f"in float32 stay {', '.join(form.float_layers) or 'no layers'}"]
    return "; ".join(parts)
