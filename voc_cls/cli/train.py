"""voc-train: fine-tune a network."""

from __future__ import annotations

import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from voc_cls.console import parse, run
from voc_cls.errors import UsageError
from voc_cls.training.config import DatasetConfig, NetworkConfig, RunConfig, TrainConfig, TrainingConfig

PROGRAM = "voc-train"
DESCRIPTION = """Fine-tune an ImageNet network to tell the classes of your pictures.

The lecture's fine-tuning of everything, from TF-Slim's checkpoint:
  voc-train --root VOCdevkit/VOC2007 --weights vgg_16.ckpt --out runs/voc07

Minutes instead of hours, without a GPU: train the classifier alone on the frozen convolutions:
  voc-weights fetch vgg_16_conv
  voc-train --root VOCdevkit/VOC2007 --weights vgg_16_conv.ckpt --head gap --trainable head --out runs/head"""
GROUPS = {"dataset": DatasetConfig, "network": NetworkConfig, "training": TrainingConfig, "run": RunConfig}


def main() -> None:
    """Entry point."""
    sys.exit(run(PROGRAM, train))


def train() -> None:
    """Parses the command line, trains, prints the table."""
    path = config_file(sys.argv[1:])
    options: dict[str, Any] = {} if path is None else {"default": from_yaml(path)}
    config = parse(TrainConfig, PROGRAM, DESCRIPTION, **options)

    from voc_cls.console import import_tensorflow

    import_tensorflow()
    from rich.console import Console

    from voc_cls.evaluation.table import evaluation_table
    from voc_cls.training.run import train as train_run

    console = Console()
    evaluation = train_run(config, console)
    if evaluation is not None:
        console.print(evaluation_table(evaluation))
    console.print(f"run folder: {config.run.out}", highlight=False, soft_wrap=True)


def config_file(args: list[str]) -> Path | None:
    """The value of --config, which has to be read before the flags that override it."""
    for position, argument in enumerate(args):
        if argument == "--config" and position + 1 < len(args):
            return Path(args[position + 1])
        if argument.startswith("--config="):
            return Path(argument.removeprefix("--config="))
    return None


def from_yaml(path: Path) -> TrainConfig:
    """A TrainConfig with the values of a YAML file; what it leaves out is still asked of the command line."""
    import tyro
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--config {path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise UsageError(f"--config {path}: holds no keys; expected {', '.join(GROUPS)}")
    values.pop("provenance", None)  # what a run recorded, not what it was told
    unknown = [key for key in values if key not in GROUPS]
    if unknown:
        raise UsageError(f"--config {path}: unknown key {unknown[0]}; known are {', '.join(GROUPS)}")
    groups = {name: _group(kind, values.get(name) or {}, f"--config {path}: {name}", tyro.MISSING)
              for name, kind in GROUPS.items()}
    return TrainConfig(**groups)


def _group(kind: type, values: dict[str, Any], where: str, missing: Any) -> Any:
    known = {entry.name: entry for entry in fields(kind)}
    if not isinstance(values, dict):
        raise UsageError(f"{where}: expected keys and values, found {values!r}")
    unknown = [key for key in values if key not in known]
    if unknown:
        raise UsageError(f"{where}.{unknown[0]}: no such key; known are {', '.join(known)}")
    required = {name: missing for name, entry in known.items()
                if entry.default is MISSING and entry.default_factory is MISSING}
    return kind(**{**required, **{name: _typed(value, known[name].type, f"{where}.{name}")
                                  for name, value in values.items()}})


def _typed(value: Any, annotation: Any, where: str) -> Any:
    """A YAML value as the type of its field; YAML knows no paths, tuples or enums, and reads 1e-5 as a string."""
    from voc_cls.data.dataset import DifficultPolicy

    kinds = {"Path": Path, "Path | None": Path, "float": float, "float | None": float, "int": int,
             "int | None": int, "DifficultPolicy": DifficultPolicy, "tuple[str, ...]": tuple}
    if value is None or annotation not in kinds:
        return value
    try:
        return kinds[annotation](value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {value!r} cannot be used ({error})") from error
