"""voc-export: exports a run as a verified version of a model, in one or several forms."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from export.options import ExportOptions
from voc_cls.console import import_tensorflow, new_console, parse, run
from voc_cls.errors import UsageError
from voc_cls.stores import registered_model

PROGRAM = "voc-export"
DESCRIPTION = """Export a trained run as a new version of a model, for voc-serve and others.

  voc-export runs/voc07 models/voc        writes models/voc/1, then 2, 3, ...
  voc-serve --model-dir models/voc
  voc-export runs/voc07 models:/voc       a version in MLflow's model registry

In other forms, for servers without TensorFlow; several at once:
  voc-export runs/voc07 models/voc --format onnx openvino
  voc-export runs/voc07 models/voc --format openvino --precision int8

Before the new version appears, each form is loaded and its probabilities are
  compared with the trained network. Existing versions are never overwritten."""


@dataclass(frozen=True)
class ExportConfig:
    """What to export, and where."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder: the --out of voc-train."""
    models: Annotated[Path, tyro.conf.Positional]
    """Folder of the model, one subfolder per version; its name is the name of the model. Or models:/NAME, of MLflow's
    registry where the run is tracked, else at $MLFLOW_TRACKING_URI, else in mlflow.db here (extra `mlflow`)."""
    version: int | None = None
    """Version number. Default: the highest existing one plus 1."""
    json: bool = False
    """Print JSON: the path, the version, and how far each form is from the trained network."""
    forms: ExportOptions = field(default_factory=ExportOptions)


def main() -> None:
    sys.exit(run(PROGRAM, export))


def export() -> None:
    config = parse(ExportConfig, PROGRAM, DESCRIPTION)
    config.forms.check()
    registered = registered_model(config.models)
    if registered and (registered[1] or config.version is not None):
        raise UsageError(f"{config.models}: MLflow numbers the versions; pass models:/{registered[0]} alone")
    if registered and config.json:
        raise UsageError(f"`json`: is for a folder, not for {config.models}; omit it")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever trained it: a SavedModel is TensorFlow's
    import_tensorflow()
    from export.version_folder import export_run, register_run

    if registered:
        register_run(config.run, registered[0], new_console(), config.forms)
        return
    path = export_run(config.run, config.models, config.version, new_console(stderr=config.json), config.forms)
    if config.json:
        forms = json.loads((path / "assets/voc_cls.json").read_bytes())["forms"]
        print(json.dumps({"path": str(path), "version": int(path.name), "forms": forms}, indent=2))
