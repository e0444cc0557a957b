"""voc-eval: average precision of a trained run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from voc_cls.console import parse, run
from voc_cls.data.dataset import DifficultPolicy

PROGRAM = "voc-eval"
DESCRIPTION = """Average precision of a trained run, class by class.

Both kinds are reported: area under the precision/recall curve (VOC2010+) and 11-point (VOC2007).
  voc-eval runs/voc07                          on the run's own evaluation split
  voc-eval runs/voc07 --split val --json out.json --predictions out.csv
  voc-eval runs/voc07 --classes cat dog        mean over these two"""


@dataclass(frozen=True)
class EvalConfig:
    """What to evaluate, on what."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run: the --out of voc-train."""
    data: Literal["voc"] | None = None
    """Kind of data set. Default: the run's."""
    root: Path | None = None
    """Folder of the data set. Default: the run's."""
    split: str | None = None
    """Pictures to evaluate. Default: the run's --eval-split."""
    difficult: DifficultPolicy | None = None
    """Pictures with only difficult objects of a class: ignore, positive or negative. Default: the run's."""
    classes: tuple[str, ...] = ()
    """Classes to report and to take the means over. Default: all."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    """Number format of the network. Default: the run's --inference-precision."""
    json: Path | None = None
    """Write the table to this file, as JSON (average precisions in 0-1)."""
    predictions: Path | None = None
    """Write every picture's probabilities to this file, as CSV."""


def main() -> None:
    """Entry point."""
    sys.exit(run(PROGRAM, evaluate))


def evaluate() -> None:
    """Parses the command line, evaluates, prints the table."""
    config = parse(EvalConfig, PROGRAM, DESCRIPTION)

    from voc_cls.console import import_tensorflow
    from voc_cls.errors import UsageError

    for flag, file in (("--json", config.json), ("--predictions", config.predictions)):
        if file is not None and not file.absolute().parent.is_dir():
            raise UsageError(f"{flag} {file}: the folder {file.parent} does not exist; make it first")
    import_tensorflow()
    from rich.console import Console

    from voc_cls.data.readers import read_dataset
    from voc_cls.evaluation.average_precision import evaluate as evaluate_scores
    from voc_cls.evaluation.predictions import write_predictions
    from voc_cls.evaluation.table import evaluation_table
    from voc_cls.files import write_json
    from voc_cls.training.precision import inference_precision
    from voc_cls.training.provenance import on_accelerator
    from voc_cls.training.run_folder import RunFolder
    from voc_cls.training.trained_run import open_run, probabilities

    recorded = RunFolder(config.run).read_config()
    pictures = recorded["dataset"]
    split = config.split or pictures["eval_split"]
    if split == "none":
        raise UsageError("--split: the run has no evaluation split; name one")
    dataset = read_dataset(config.data or pictures["data"], config.root or Path(pictures["root"]), split,
                           config.difficult or DifficultPolicy(pictures["difficult"]))
    asked = config.precision or recorded["training"]["inference_precision"]
    trained = open_run(config.run, inference_precision(asked, on_accelerator()))
    if dataset.classes != trained.labels:
        raise UsageError(f"--root: has the classes {', '.join(dataset.classes)}, the run {', '.join(trained.labels)}")
    unknown = [name for name in config.classes if name not in trained.labels]
    if unknown:
        raise UsageError(f"--classes {unknown[0]}: the run does not know it; it has {', '.join(trained.labels)}")
    logits = trained.logits(dataset.paths, "evaluate")
    evaluation = evaluate_scores(dataset, logits, config.classes)
    if config.json is not None:
        write_json(config.json, evaluation.to_dict())
    if config.predictions is not None:
        write_predictions(config.predictions, dataset, probabilities(logits))
    Console().print(evaluation_table(evaluation))
