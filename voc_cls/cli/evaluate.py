"""voc-eval: everything measured about a trained run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from voc_cls.config import Range, check_ranges
from voc_cls.console import import_tensorflow, new_console, parse, run, say, warn
from voc_cls.data.dataset import DataKind, Dataset, DifficultPolicy
from voc_cls.errors import UsageError
from voc_cls.files import check_target, write_json, write_text
from voc_cls.model_metadata import Tta
from voc_cls.training.config import fraction_of, recorded_dataset
from voc_cls.training.run_folder import STDOUT, ResultFiles, RunFolder

if TYPE_CHECKING:
    from rich.console import Console

    from voc_cls.training.trained_run import TrainedRun

PROGRAM = "voc-eval"
DESCRIPTION = """Evaluate a trained run: scores per class, with 95 % confidence intervals.

- Multi-label: average precision (VOC2010+, 11-point), decisions at thresholds.
- Single-label: accuracy, top-5, precision, recall, F1, the confusion matrix.

On the run's own evaluation split; updates evaluation.json, predictions.csv
  and report.html in the run folder:
  voc-eval runs/voc07

On another split, into other files:
  voc-eval runs/voc07 --split val --json val.json --report val.html

Several runs as one model, by the mean of their logits:
  voc-eval runs/voc07/seed-* --json ensemble.json

Run B against run A: the differences, and the pictures that changed most:
  voc-eval runs/A runs/B --compare --report compare.html

With test-time augmentation; for two classes; with a sheet of sample pictures:
  voc-eval runs/voc07 --tta flip --predictions out.csv
  voc-eval runs/voc07 --classes cat dog
  voc-eval runs/cifar --sheet samples.png"""


@dataclass(frozen=True)
class EvalConfig:
    """What to evaluate, on what."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Run folder: the --out of voc-train. Several are evaluated as one model, by the mean of their logits; they must
    have the same classes and evaluation pictures."""
    data: DataKind | None = None
    """Kind of data set. Default: the run's."""
    root: tuple[Path, ...] = ()
    """Path of the data set, or several, as for voc-train. Default: the run's."""
    split: str | None = None
    """The split to evaluate. Default: the run's --eval-split."""
    difficult: DifficultPolicy | None = None
    """voc only: how to label a picture that contains only difficult objects of a class. Default: the run's."""
    classes: tuple[str, ...] = ()
    """Classes to report and to average over. Default: all. Single-label accuracy and confusion matrix always cover all
    classes."""
    weights: Literal["best", "last"] = "best"
    """best: the weights with the best validation score (mAP or accuracy). last: those after the last step."""
    tta: Tta = "none"
    """Test-time augmentation: average over views of each picture. flip: also its mirror image. multi-scale: also two
    larger sizes. both: all of them."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    """Number format of the computation. Default: the run's --inference-precision."""
    compare: bool = False
    """Compare two runs, A and B, instead: the differences of mean AP and of each class's AP with 95 % intervals (paired
    bootstrap), and the pictures whose decisions or ranks changed most; --json and --report take it. A run's
    predictions.csv is used where it is of these pictures and newer than the weights."""
    pointing: bool = False
    """Also measure how often the maximum of a heat map (Grad-CAM) lies in a box of its class, at most 15 pixels beside
    one (the pointing game); for voc, coco and label-studio. Takes about as long as the evaluation."""
    write: bool = True
    """Update the files in the run folder. Skipped if a flag above changes what is evaluated, and for several runs."""
    bootstrap: Annotated[int, Range(100)] = 1000  # of fewer, the ends of a 95 % interval would be single draws
    """Number of bootstrap resamples for the confidence intervals."""
    files: ResultFiles = field(default_factory=ResultFiles)


def main() -> None:
    sys.exit(run(PROGRAM, evaluate))


def evaluate() -> None:
    config = parse(EvalConfig, PROGRAM, DESCRIPTION)
    if not config.runs:
        raise UsageError("RUN: name the run folder to evaluate, the --out of voc-train")
    check_ranges(config, config.files)
    for name, file in config.files.given().items():
        check_target(name, file, ".png" if name == "sheet" else "")
    if config.compare and len(config.runs) != 2:
        raise UsageError(f"`compare`: compares two runs, found {len(config.runs)}; give A and B")
    if config.compare and (other := config.files.given().keys() - {"json", "report"}):
        raise UsageError(f"`{min(other)}`: is of one run; omit it, or omit `compare`")
    if config.pointing and len(config.runs) > 1:
        raise UsageError("`pointing`: is of one run; give one, or omit it")
    import_tensorflow()
    from voc_cls.evaluation.tables import report_tables
    from voc_cls.training.devices import inference_precision
    from voc_cls.training.trained_run import evaluate_run, evaluate_together, open_run, same_pictures

    recorded = [RunFolder(path).read_config() for path in config.runs]
    dataset = same_pictures(config.runs, [read(config, path, values) for path, values in
                                          zip(config.runs, recorded, strict=True)])
    warn(dataset.warnings)
    runs = (open_run(path, inference_precision(config.precision or values["compute"]["inference_precision"]),
                     config.weights) for path, values in zip(config.runs, recorded, strict=True))
    print_json = config.files.json == STDOUT
    if print_json:
        config = replace(config, files=replace(config.files, json=None))
    console, files = new_console(stderr=print_json), [config.files]
    fitted: tuple[Path, ...] = ()
    if config.compare:
        values = compare_runs(config, runs, dataset, console)
        if print_json:
            print(json.dumps(values, indent=2))
        return
    if len(config.runs) > 1:
        report = evaluate_together(runs, dataset, [validation(values) for values in recorded], config.tta,
                                   config.classes, config.bootstrap, files)
    else:
        trained = next(runs)
        if config.write and is_own(config, recorded[0]):
            files.append(trained.folder.results)
            fitted = fit_where_missing(trained)
        report = evaluate_run(trained, dataset, config.tta, config.classes, config.bootstrap, files,
                              pointing=config.pointing)
    console.print(report_tables(report))
    if print_json:
        print(json.dumps(report.to_dict(), indent=2))
    for path in (*fitted, *(path for result_files in files for path in result_files.given().values())):
        say(console, f"written: {path}")


def compare_runs(config: EvalConfig, runs: Iterable[TrainedRun], dataset: Dataset, console: Console
                 ) -> dict[str, Any]:
    """Prints, writes and returns how the second run differs from the first."""
    from voc_cls.evaluation.compare import compare
    from voc_cls.evaluation.predictions import read_logits
    from voc_cls.evaluation.tables import comparison_tables
    from voc_cls.training.trained_run import evaluate_run

    reports = []
    for trained in runs:
        stored, logits = trained.folder.results.predictions, None
        if stored and is_own(replace(config, classes=()), trained.config):
            logits = read_logits(stored, dataset, trained.folder.best)
        reports.append(evaluate_run(trained, dataset, config.tta, config.classes, config.bootstrap, logits=logits))
    comparison = compare(reports[0], reports[1], [str(path) for path in config.runs], config.bootstrap)
    console.print(comparison_tables(comparison))
    if config.files.json is not None:
        write_json(config.files.json, comparison.to_dict())
    if config.files.report is not None:
        write_text(config.files.report, comparison.to_html())
    return comparison.to_dict()


def read(config: EvalConfig, run_path: Path, recorded: dict[str, Any]) -> Dataset:
    """The pictures to evaluate of one run: its own where no flag names others."""
    from voc_cls.data.load import NONE, read_dataset
    from voc_cls.training.splits import read_splits

    pictures, reasons = recorded_dataset(recorded["dataset"]), recorded["provenance"].get("not_repeatable", {})
    if not config.root and "dataset" in reasons:
        raise UsageError(f"{run_path}: {reasons['dataset']}; pass --root and --split, or evaluate it from Python")
    split = config.split or pictures.eval_split or NONE
    if split == NONE:
        raise UsageError(f"{run_path}: was trained without an evaluation split; name one with --split")
    if not (config.root or config.data or config.split) and fraction_of(split) is not None:
        drawn = read_splits(pictures, recorded["training"]["seed"]).eval
        assert drawn is not None, "a part of the training split is drawn"
        return drawn
    try:
        return read_dataset(config.data or pictures.data, config.root or pictures.root, split,
                            config.difficult or pictures.difficult, pictures.classes)
    except UsageError as error:  # the run's classes, which are not the --classes of this command
        raise UsageError(str(error).replace("`classes`", f"the classes of {run_path}")) from None


def is_own(config: EvalConfig, recorded: dict[str, Any]) -> bool:
    """Whether this is the evaluation that voc-train ends with, whose files may be renewed."""
    pictures = recorded_dataset(recorded["dataset"])
    roots = tuple(root.absolute() for root in config.root) or None
    asked = {"data": config.data, "root": roots, "eval_split": config.split, "difficult": config.difficult}
    same_pictures = all(value is None or value == getattr(pictures, key) for key, value in asked.items())
    same_network = config.precision in (None, recorded["compute"]["inference_precision"])
    return same_pictures and same_network and (config.weights, config.tta, config.classes) == ("best", "none", ())


def fit_where_missing(trained: TrainedRun) -> tuple[Path, ...]:
    """What the task fits, of a run that has a validation split but not its files; returns what was written."""
    from voc_cls.evaluation.tasks import Fitted, fit, read_fitted, write_fitted

    if (read_fitted(trained.folder.path, trained.labels, trained.task) != Fitted()
            or (pictures := validation(trained.config)) is None):
        return ()
    fitted = fit(pictures, trained.logits(pictures.paths, "validate"))
    return write_fitted(trained.folder.path, fitted, trained.labels)


def validation(recorded: dict[str, Any]) -> Dataset | None:
    """The pictures that a run was validated on; None where there are none, or they cannot be read again."""
    from voc_cls.training.splits import read_splits

    chosen = recorded_dataset(recorded["dataset"])
    if chosen.val_split == "none" or "dataset" in recorded["provenance"].get("not_repeatable", {}):
        return None
    return read_splits(chosen, recorded["training"]["seed"]).val
