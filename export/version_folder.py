"""From a run folder to `models/<name>/<version>/`: written aside, verified, then renamed into place."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import keras
from rich.console import Console

from export.forms import images_of, write_forms
from export.metadata import VerifiedForm, write_metadata
from export.options import ExportOptions
from voc_cls.data.dataset import Task
from voc_cls.errors import ExportError, UsageError
from voc_cls.training.trained_run import TrainedRun, open_run


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
    trained = open_run(folder)
    splits, unmeasured = images_of(trained, options)
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".aside-", dir=models) as parent:
            aside = Path(parent) / "model"
            forms = write_forms(aside, trained, name, options, splits)
            write_metadata(aside, name, number, trained, forms)
            os.rename(aside, target)
    except OSError as error:
        raise ExportError(f"{models}: cannot be written ({error.strerror or error}); nothing was exported") from error
    if console is not None:
        lines = [f"{target}: exported and verified", *(f"  {form}, {_text(made, trained.task)}"
                                                       for form, made in forms.items()),
                 *([f"  the forms were not evaluated: {unmeasured}"] if unmeasured else [])]
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
    return target


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
    return {int(path.name): path for path in paths if re.fullmatch("[0-9]+", path.name)}
