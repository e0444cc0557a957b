"""voc-train: fine-tune a network."""

from __future__ import annotations

import sys
from dataclasses import MISSING, fields
from pathlib import Path
from textwrap import indent
from typing import Any

from voc_cls.config import flag_value, read_yaml, typed_values
from voc_cls.console import parse, run
from voc_cls.data.augmentation import AugmentationConfig
from voc_cls.errors import RunError, UsageError
from voc_cls.nets.listing import text
from voc_cls.training.config import (
    ComputeConfig,
    DatasetConfig,
    LossConfig,
    NetworkConfig,
    RunConfig,
    TrainConfig,
    TrainingConfig,
)

PROGRAM = "voc-train"
DESCRIPTION = f"""Fine-tune an ImageNet network to tell the classes of your pictures.

The lecture's fine-tuning of everything, from TF-Slim's checkpoint:
  voc-train --root VOCdevkit/VOC2007 --weights vgg_16.ckpt --out runs/voc07

Minutes instead of hours, without a GPU: the classifier alone, on frozen layers:
  weights=$(voc-weights fetch vgg_16_conv)
  voc-train --root VOCdevkit/VOC2007 --weights $weights --head gap \\
            --trainable head --out runs/head

Another network, another data set, one class a picture:
  voc-train --data cifar10 --root cifar-10-batches-py --net resnet_v1_50 \\
            --weights $(voc-weights fetch resnet_v1_50) --out runs/cifar10

After an interruption: voc-train --out runs/head --resume

{indent(text(), "  ")}"""
GROUPS = {"dataset": DatasetConfig, "network": NetworkConfig, "augmentation": AugmentationConfig,
          "training": TrainingConfig, "loss": LossConfig, "compute": ComputeConfig, "run": RunConfig}


def main() -> None:
    """Entry point."""
    sys.exit(run(PROGRAM, train))


def train() -> None:
    """Parses the command line, trains, prints the table."""
    if "--doctor" in sys.argv[1:]:
        examine()
        return
    path = config_file(sys.argv[1:])
    options: dict[str, Any] = {} if path is None else {"default": from_yaml(path)}
    config = parse(TrainConfig, PROGRAM, DESCRIPTION, **options)

    from voc_cls.console import import_tensorflow

    import_tensorflow()
    from rich.console import Console

    from voc_cls.evaluation.presentation import assessment_tables
    from voc_cls.training.session import train as train_run

    console = Console()
    assessment = train_run(config, console)
    if assessment is not None:
        console.print(assessment_tables(assessment))
    results = " (report.html shows the results)" if assessment is not None else ""
    console.print(f"run folder: {config.run.out}{results}", highlight=False, markup=False, soft_wrap=True)


def examine() -> None:
    """--doctor: prints what this installation can do; RunError where training cannot work."""
    from voc_cls.console import import_tensorflow

    import_tensorflow()
    from rich.console import Console

    from voc_cls.paths import cache_folder
    from voc_cls.training.doctor import doctor

    given = flag_value(sys.argv[1:], "--cache-dir")
    if not doctor(Console(), cache_folder(Path(given) if given else None)):
        raise RunError("training cannot work here; follow the advice above")


def config_file(args: list[str]) -> Path | None:
    """The YAML file to read before the flags that override it: --config, or with --resume the run's own."""
    given = flag_value(args, "--config")
    if given is not None:
        return Path(given)
    out = flag_value(args, "--out")
    own = Path(out) / "config.yaml" if out is not None and "--resume" in args else None
    return own if own is not None and own.is_file() else None


def from_yaml(path: Path) -> TrainConfig:
    """A TrainConfig with the values of a YAML file; what it leaves out is still asked of the command line."""
    import tyro

    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UsageError(f"--config {path}: holds no keys; expected {', '.join(GROUPS)}")
    values.pop("provenance", None)  # what a run recorded, not what it was told
    unknown = [key for key in values if key not in GROUPS]
    if unknown:
        raise UsageError(f"--config {path}: unknown key {unknown[0]}; known are {', '.join(GROUPS)}")
    return TrainConfig(**{name: _group(kind, values.get(name) or {}, f"--config {path}: {name}", tyro.MISSING)
                          for name, kind in GROUPS.items()})


def _group(kind: type, values: Any, where: str, missing: Any) -> Any:
    required = {entry.name: missing for entry in fields(kind)
                if entry.default is MISSING and entry.default_factory is MISSING}
    return kind(**{**required, **typed_values(kind, values, where)})
