"""voc-export: exports a run as a versioned SavedModel."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from voc_cls.console import import_tensorflow, parse, run

PROGRAM = "voc-export"
DESCRIPTION = """Export a trained run as a SavedModel for voc-serve and TensorFlow Serving.

  voc-export runs/voc07 models/voc        writes models/voc/1, then 2, 3, ...
  voc-serve --model-dir models/voc

Before the new version appears, the export is loaded and its probabilities are
  compared with the trained network. Existing versions are never overwritten."""


@dataclass(frozen=True)
class ExportConfig:
    """What to export, and where."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder: the --out of voc-train."""
    models: Annotated[Path, tyro.conf.Positional]
    """Folder of the model, one subfolder per version; its name is the name of the model."""
    version: int | None = None
    """Version number. Default: the highest existing one plus 1."""


def main() -> None:
    sys.exit(run(PROGRAM, export))


def export() -> None:
    config = parse(ExportConfig, PROGRAM, DESCRIPTION)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever trained it: a SavedModel is TensorFlow's
    import_tensorflow()
    from rich.console import Console

    from export.savedmodel import export_run

    export_run(config.run, config.models, config.version, Console())
