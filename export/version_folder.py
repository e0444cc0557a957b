"""From a run folder to `models/<name>/<version>/`: its forms are written aside, verified, then renamed into place."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import keras
from rich.console import Console

from export.metadata import VerifiedForm, write_metadata
from export.options import ExportOptions, Form
from export.savedmodel import write_savedmodel
from export.verify import Predictor, logits_of, result_of, verify_predictor, verify_savedmodel
from voc_cls.data.dataset import Task
from voc_cls.errors import DataError, ExportError, UsageError
from voc_cls.evaluation.tta import views_of
from voc_cls.model_metadata import version_number
from voc_cls.training.splits import Splits
from voc_cls.training.trained_run import TrainedRun, open_run, run_splits

ONNX_MODEL = "model.onnx"
"""The name that Triton looks for."""


def export_run(run: TrainedRun | Path | str, model_dir: Path | str, version: int | None = None,
               console: Console | None = None, options: ExportOptions | None = None) -> Path:
    """`voc_cls.export`, with the result printed on `console`. The version appears whole or not at all."""
    folder, models = run.folder.path if isinstance(run, TrainedRun) else Path(run), Path(model_dir)
    options = options or ExportOptions()
    options.check()
    options.check_packages()
    if keras.backend.backend() != "tensorflow":
        raise UsageError(f"KERAS_BACKEND={keras.backend.backend()}: a SavedModel is exported by TensorFlow; set "
                         "KERAS_BACKEND=tensorflow before Keras is imported")
    name = models.resolve().name
    existing = versions(models)
    number = max(existing, default=0) + 1 if version is None else version
    target = models / str(number)
    if number < 1:
        raise UsageError(f"`version` {number}: must be at least 1")
    if number in existing:
        raise ExportError(f"{existing[number]}: exists already and is never overwritten; omit `version` for the next "
                          "one")
    trained = open_run(folder).calibrated() if options.calibrated else open_run(folder)
    splits, unmeasured = _images_of(trained, options)
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".aside-", dir=models) as parent:
            aside = Path(parent) / "model"
            forms = _write_forms(aside, trained, name, options, splits)
            write_metadata(aside, name, number, trained, forms, options.tta)
            os.rename(aside, target)
    except OSError as error:
        raise ExportError(f"{models}: cannot be written ({error.strerror or error}); nothing was exported") from error
    if console is not None:
        lines = [f"{target}: exported and verified", *(f"  {form}, {_text(made, trained.task)}"
                                                       for form, made in forms.items()),
                 *([f"  the forms were not evaluated: {unmeasured}"] if unmeasured else [])]
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
    return target


def _write_forms(folder: Path, trained: TrainedRun, name: str, options: ExportOptions, splits: Splits | None
                ) -> dict[Form, VerifiedForm]:
    """Writes the forms of the model `name` into `folder`, which must not exist; returns how each was verified.

    splits: the run's images, for int8, and for the result of each form but the SavedModel; None: it is not measured.
    """
    forms: dict[Form, VerifiedForm] = {}
    if "savedmodel" in options.format:
        write_savedmodel(folder, trained, name, views_of(options.tta, trained.network.spec.preprocessing.size))
        forms["savedmodel"] = VerifiedForm(verify_savedmodel(folder, trained, options.tta))
    if not options.portable:
        return forms
    from export.onnx import onnx_predictor, write_onnx

    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as elsewhere:
        # OpenVINO reads this graph too, whether or not it is part of the export
        graph = (folder if "onnx" in options.format else Path(elsewhere)) / ONNX_MODEL
        write_onnx(graph, trained.network, trained.task)
        if "onnx" in options.format:
            forms["onnx"] = _verified(graph, onnx_predictor(graph), trained, options, splits)
        if "openvino" in options.format:
            forms["openvino"] = _write_openvino(folder, graph, trained, options, splits)
    return forms


def _images_of(trained: TrainedRun, options: ExportOptions) -> tuple[Splits | None, str]:
    """The run's images, as far as the forms need them, and if they are not to be had the reason.

    The reason is raised where nothing can be done without them: int8.
    """
    if not options.portable or (options.precision == "float32" and not options.evaluate):
        return None, ""
    try:
        return run_splits(trained), ""
    except (DataError, UsageError) as error:
        if options.precision == "int8":
            raise
        return None, str(error)


def _write_openvino(folder: Path, graph: Path, trained: TrainedRun, options: ExportOptions, splits: Splits | None
                    ) -> VerifiedForm:
    from export.openvino import openvino_predictor, read_model, write_model
    from export.quantize import quantize

    model, made = read_model(graph), None
    if options.precision == "int8":
        model, made = quantize(model, trained, splits, options)
    path = write_model(model, folder)
    verified = _verified(path, openvino_predictor(path), trained, options, splits)
    for size in views_of(options.tta, trained.network.spec.preprocessing.size).sizes[1:]:
        verify_predictor(path, openvino_predictor(path, size), trained.network, trained.task, made is None, size)
    return verified if made is None else replace(made, result=verified.result)


def _verified(path: Path, predict: Predictor, trained: TrainedRun, options: ExportOptions, splits: Splits | None
              ) -> VerifiedForm:
    exact = path.name == ONNX_MODEL or options.precision == "float32"
    difference = verify_predictor(path, predict, trained.network, trained.task, exact)
    result = None
    if options.evaluate and splits is not None and splits.eval is not None:
        logits = logits_of(predict, splits.eval, trained.network.spec.preprocessing, f"evaluate {path.name}")
        result = result_of(splits.eval, logits)
    return VerifiedForm(difference, result=result)


def _text(form: VerifiedForm, task: Task) -> str:
    """How a form was verified, in a line."""
    parts = [f"{form.precision}: probabilities within {form.largest_difference:.1e} of the trained network's"]
    if form.result is not None:
        name = "mean AP" if task is Task.MULTI_LABEL else "accuracy"
        parts.append(f"{name} {form.result:.4f} on the evaluation split")
    if form.change:
        parts += [form.change, f"in float32 stay {', '.join(form.float_layers) or 'no layers'}"]
    return "; ".join(parts)


def versions(models: Path) -> dict[int, Path]:
    """The versions below `models`: 007 is 7. ExportError if that is a file."""
    if models.exists() and not models.is_dir():
        raise ExportError(f"{models}: is a file; expected the folder of the model, which holds its versions")
    paths = models.iterdir() if models.is_dir() else ()
    return {number: path for path in paths if (number := version_number(path.name)) is not None}
