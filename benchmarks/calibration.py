"""Which calibration is best where few images are there to fit it: none, a temperature, one line (Platt), one a class.

    voc-train --root VOCdevkit/VOC2007 --weights vgg_16_conv.ckpt --head gap --trainable head --val-split none \\
              --out runs/head
    python benchmarks/calibration.py --run runs/head --classes bus car cat person train

The head of a run of `--solver lbfgs` is solved anew on its features, from the cache, with its penalty: in
cross-validation of its training images, and then for its evaluation images with three seeds. 15 % of the training
images are left for the calibration. The tables have the expected calibration error of all entries and the mean of the
classes, in percent, and the log loss, nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from scipy.special import expit
from sklearn.metrics import log_loss

from voc_cls.console import import_tensorflow
from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.calibration import LEAST_POSITIVES, Calibration, fit_line, reliability

FRACTION, FOLDS, SEEDS = 0.15, 5, 3


def calibrations(validation: Dataset, logits: np.ndarray) -> dict[str, np.ndarray]:
    """By method: slope and offset, [2, 1 or classes]."""
    counted, true = ~validation.ignored, validation.labels == 1
    truth, scores = true[counted], logits[counted]
    line = fit_line(truth, scores)
    # entries and their mirror images have a line without an offset
    temperature = fit_line(np.concatenate([truth, ~truth]), np.concatenate([scores, -scores]))
    own = [fit_line(true[rows, column], logits[rows, column], LEAST_POSITIVES) or line
           for column, rows in enumerate(counted.T)]
    methods = {"none": [Calibration("", 1)], "temperature": [temperature], "one line": [line], "one a class": own}
    return {method: np.array([(1 / found.temperature, found.offset) for found in lines]).T
            for method, lines in methods.items()}


def show(title: str, dataset: Dataset, results: Sequence[dict[str, np.ndarray]]) -> None:
    """Prints the mean over `results`, method → logits."""
    table = Table("calibration", "error %", "mean of the classes %", "log loss", title=f"{dataset.name}, {title}")
    counted = ~dataset.ignored
    for method in results[0]:
        rows = []
        for result in results:
            found, probabilities = reliability(dataset, result[method]), expit(result[method].astype(np.float64))
            rows.append((100 * found.ece, 100 * found.class_ece,
                         log_loss(dataset.labels[counted], probabilities[counted])))
        error, of_classes, loss = np.mean(rows, axis=0)
        table.add_row(method, f"{error:.2f}", f"{of_classes:.2f}", f"{loss:.4f}")
    Console().print(table)


def main(run: Path, classes: tuple[str, ...] = (), cache_dir: Path | None = None) -> None:
    """Prints both tables."""
    import_tensorflow()
    from voc_cls.training.convex import Problem
    from voc_cls.training.trained_run import open_run, run_features, run_splits

    trained = open_run(run)
    splits, penalty = run_splits(trained), trained.config["provenance"]["solver"]["l2"]
    kind: Any = "hinge" if trained.config["loss"]["loss"] == "hinge" else "sigmoid"
    columns = [column for column, name in enumerate(trained.labels) if not classes or name in classes]
    train, evaluated = splits.train, splits.eval
    features, judged = (run_features(trained, split, cache_dir, print) for split in (train, evaluated))

    def calibrated(rest: Any, validation: Any, inputs: Any) -> dict[str, np.ndarray]:
        """The logits of `inputs` by a head that has seen the rows `rest`, by method."""
        mean, counts = features[rest].mean(axis=0), (~train.ignored[rest]).astype(np.float32)
        problem = Problem(features[rest] - mean, mean, None, train.labels[rest], counts, kind, views=1)
        head = problem.back(problem.solve(penalty))
        found = calibrations(train.subset(validation, "validation").only(columns),
                             head.logits(features[validation])[:, columns])
        return {method: head.logits(inputs)[:, columns] * slope + offset for method, (slope, offset) in found.items()}

    number = round(FRACTION * len(train))
    parts = np.array_split(np.random.default_rng(0).permutation(len(train)), FOLDS)
    folds = []
    for fold, held_out in enumerate(parts):
        rest = np.concatenate([part for other, part in enumerate(parts) if other != fold])
        folds.append(calibrated(rest[number:], rest[:number], features[held_out]))
    show("cross-validation", train.subset(np.concatenate(parts), train.name).only(columns),
         [{method: np.concatenate([fold[method] for fold in folds]) for method in folds[0]}])
    rows = {path: row for row, path in enumerate(train.paths)}
    drawn = [[[rows[path] for path in part.paths] for part in train.split(FRACTION, seed)] for seed in range(SEEDS)]
    show(f"mean of {SEEDS} seeds", evaluated.only(columns),
         [calibrated(np.array(rest), np.array(validation), judged) for rest, validation in drawn])


if __name__ == "__main__":
    tyro.cli(main)
