"""A linear classifier at the optimum of its loss: L-BFGS on the features of the frozen layers, in seconds.

The loss is the one that gradient descent minimises, with the same penalty (`l2` times the sum of squares of the kernel,
as keras.regularizers.L2). It is convex, so there is one optimum, and neither a rate nor a number of steps to choose.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from typing import Literal

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.special import expit, log_softmax
from threadpoolctl import threadpool_limits

from voc_cls.data.dataset import IGNORED, Dataset
from voc_cls.data.feature_cache import CachedRows
from voc_cls.errors import UsageError
from voc_cls.evaluation.calibration import LEAST_POSITIVES
from voc_cls.evaluation.tasks import score
from voc_cls.files import write_aside, write_text
from voc_cls.training.callbacks import progress_bar
from voc_cls.training.config import ResolvedConfig
from voc_cls.training.losses import MultiLabelLoss, SingleLabelLoss, build_loss, squared_hinge
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.splits import Splits
from voc_cls.training.trainable_part import TrainablePart

Floats = npt.NDArray[np.float32]
FOLDS = 3
"""Of the cross-validation that chooses the penalty."""
STRENGTHS = tuple(float(f"{10 ** (exponent / 4):.2g}") for exponent in range(-12, -33, -1))
"""Penalties to choose from, the strongest first, relative to the mean square of the features' length: the same kernels
then compete whatever the features are measured in."""
WORSE = 4
"""Penalties in a row with a lower score after which weaker ones are not tried."""
ITERATIONS = 1000
MOST_AXES = 4096
"""Features whose principal axes are computed; it takes time with their third power, of so many half a minute."""
PLAIN_STRENGTH = 2e-6
"""Where there are too few images for a cross-validation: what the real VOC2007 part takes."""


@dataclass(frozen=True)
class Solution:
    """weights: the kernel and, as the last row, the bias, [D + 1, classes]. loss: with the penalty, as Keras has it."""

    weights: Floats
    iterations: int
    loss: float

    def logits(self, features: Floats) -> Floats:
        """[N, classes] of features [N, D]."""
        logits: Floats = features @ self.weights[:-1] + self.weights[-1]
        return logits


@dataclass(frozen=True)
class Problem:
    """What is minimised: the mean over all entries of `counts` times the loss of `targets`.

    features: [N, D]. targets: [N, classes], 0 to 1. counts: [N, classes], of a softmax [N, 1]; 0 where an entry is
    ignored.
    """

    features: Floats
    targets: Floats
    counts: Floats
    loss: Literal["sigmoid", "softmax", "hinge"]

    def part(self, rows: npt.NDArray[np.int64]) -> Problem:
        return replace(self, features=self.features[rows], targets=self.targets[rows], counts=self.counts[rows])

    def turned(self) -> tuple[Problem, Turn]:
        """The same problem on centred features along their principal axes, where L-BFGS needs a tenth of the
        iterations: `solve` then knows the curvature along each of them. And what turns a solution back."""
        features = self.features - (centre := self.features.mean(axis=0))
        axes: Floats | None = None
        if features.shape[1] <= MOST_AXES:
            axes = np.linalg.eigh((features.T @ features).astype(np.float64))[1].astype(np.float32)
            features = features @ axes
        return replace(self, features=features), Turn(centre, axes)

    def solve(self, l2: float, start: Solution | None = None) -> Solution:
        """The optimum, sought from `start` or from zeros."""
        (rows, dimensions), classes = self.features.shape, self.targets.shape[1]
        divisor = rows if self.loss == "softmax" else rows * classes
        bend = 2.0 if self.loss == "hinge" else 0.25  # the second derivative of the loss of an entry at most
        # the loss is curved by at most this along each weight; in these units all are alike
        curvature = np.square(self.features).sum(axis=0, dtype=np.float64) * bend / divisor + 2 * l2
        units = np.append(curvature, rows * bend / divisor)[:, None] ** -0.5

        def value_and_slopes(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            weights = units * flat.reshape(dimensions + 1, classes)
            logits = self.features @ weights[:-1].astype(np.float32) + weights[-1].astype(np.float32)
            if self.loss == "softmax":
                logs = log_softmax(logits, axis=1)
                losses, errors = -(self.targets * logs).sum(axis=1, keepdims=True), np.exp(logs) - self.targets
            elif self.loss == "hinge":
                signs = 2 * self.targets - 1
                missing = np.maximum(1 - signs * logits, 0)
                losses, errors = np.square(missing), -2 * signs * missing
            else:
                losses, errors = np.logaddexp(0, logits) - self.targets * logits, expit(logits) - self.targets
            errors = errors * self.counts / np.float32(divisor)
            slopes = np.concatenate([self.features.T @ errors, errors.sum(axis=0, keepdims=True)]).astype(np.float64)
            slopes[:-1] += 2 * l2 * weights[:-1]
            value = (losses * self.counts).sum(dtype=np.float64) / divisor + l2 * np.square(weights[:-1]).sum()
            return float(value), (units * slopes).ravel()

        first = np.zeros((dimensions + 1, classes)) if start is None else start.weights / units
        found = minimize(value_and_slopes, first.ravel(), jac=True, method="L-BFGS-B",
                         options={"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS, "ftol": 1e-9, "gtol": 1e-6})
        weights = units * found.x.reshape(first.shape)
        return Solution(weights.astype(np.float32), int(found.nit), float(found.fun))


@dataclass(frozen=True)
class Turn:
    """What was taken from the features, [D], and the axes that they were turned to, [D, D]; None: their own."""

    centre: Floats
    axes: Floats | None

    def back(self, solution: Solution) -> Solution:
        """The same classifier on the features as they were."""
        kernel = solution.weights[:-1] if self.axes is None else self.axes @ solution.weights[:-1]
        return replace(solution, weights=np.concatenate([kernel, solution.weights[-1:] - self.centre @ kernel]))


def problem(features: Floats, train: Dataset, loss: MultiLabelLoss | SingleLabelLoss) -> Problem:
    """`loss`, a convex one, on the features [N · views, D] of `train`, the views of an image side by side."""
    labels = np.repeat(train.targets, len(features) // len(train), axis=0)
    shown, kinds = np.maximum(labels, 0), len(train.classes) if train.single_label else 2
    targets = (shown * (1 - loss.label_smoothing) + loss.label_smoothing / kinds).astype(np.float32)
    if train.single_label:
        weights = np.ones(kinds, np.float32) if loss.weights is None else loss.weights
        return Problem(features, targets, shown @ weights[:, None], "softmax")
    counts = (labels != IGNORED).astype(np.float32)
    if loss.weights is not None:
        counts *= np.where(shown == 1, loss.weights[1], loss.weights[0])
    return Problem(features, targets, counts, "hinge" if loss.losses is squared_hinge else "sigmoid")


@dataclass(frozen=True)
class Choice:
    """The penalty, and the mean score over the folds of each one that was tried; none: too few images to try any."""

    l2: float
    scores: dict[float, float]


def choose_l2(whole: Problem, unit: float, train: Dataset, seed: int, group: str, console: Console) -> Choice:
    """The penalty with the best mean score on the parts left out in turn: mean AP of the classes with LEAST_POSITIVES
    in each of them (if there are any; otherwise all), single-label: accuracy.

    All views of an image, and images of a `group`, are in one part; an image is predicted from its first view. `unit`:
    what STRENGTHS are relative to.
    """
    views, judged = len(whole.features) // len(train), list(range(len(train.classes)))
    if not train.single_label:  # the mean over rare classes is noise, unless there are no others
        judged = [column for column, positives in enumerate(train.positives.values())
                  if positives >= LEAST_POSITIVES * FOLDS] or judged
    try:
        folds = train.stratified(train.grouping(group), [os.path.realpath(path) for path in train.paths]
                                 ).folds(FOLDS, seed)
    except UsageError:
        return Choice(PLAIN_STRENGTH * unit, {})
    solved: list[Solution | None] = [None] * FOLDS
    scores: dict[float, float] = {}
    with progress_bar(console) as bar:
        task = bar.add_task("cross-validation", total=FOLDS * len(STRENGTHS), note="fits")
        for l2 in (float(f"{strength * unit:.3g}") for strength in STRENGTHS):
            ranks = []
            for number, (rest, left_out) in enumerate(folds):
                rows = (rest[:, None] * views + np.arange(views)).ravel()
                solved[number] = solution = whole.part(rows).solve(l2, solved[number])
                logits = solution.logits(whole.features[left_out * views])
                ranks.append(score(train.subset(left_out, train.name).only(judged), logits[:, judged]).rank)
                bar.advance(task)
            scores[l2] = float(np.mean(ranks))
            if list(scores).index(max(scores, key=scores.__getitem__)) < len(scores) - WORSE:
                break
    return Choice(max(scores, key=scores.__getitem__), scores)


def solve_head(part: TrainablePart, rows: CachedRows, classifier: keras.layers.Layer, config: ResolvedConfig,
               splits: Splits, folder: RunFolder, console: Console, progress: Console) -> None:
    """Gives `classifier`, all that is trained of `part`, its best weights by the features `rows`, and writes what a
    run folder has of a training. A run that is interrupted starts anew, with the same result."""
    started, train, given = time.monotonic(), splits.train, config.settings.training.l2
    features = np.asarray(rows[:], np.float32).reshape(len(rows), -1)
    whole = problem(features, train, build_loss(config.loss, train))
    with threadpool_limits(1, "blas"):  # matrices are small; threads that wait for each other cost more
        turned, turn = whole.turned()
        if given is None:
            unit = float(np.mean(np.square(features).sum(axis=1))) or 1.0
            choice = choose_l2(turned, unit, train, config.training.seed, config.settings.dataset.group, progress)
        else:
            choice = Choice(given, {})
        solution = turn.back(turned.solve(choice.l2))
    classifier.kernel.assign(solution.weights[:-1].reshape(classifier.kernel.shape))
    classifier.bias.assign(solution.weights[-1])
    scores = {f"{l2:g}": round(rank, 5) for l2, rank in choice.scores.items()}
    line = {"step": solution.iterations, "seconds": round(time.monotonic() - started, 3), "loss": solution.loss}
    if splits.val is not None:
        line |= score(splits.val, part.logits(part.shared_inputs(splits.val), len(splits.val))).metrics
    folder.record("solver", {"l2": choice.l2, "iterations": solution.iterations, "cross_validation": scores})
    write_text(folder.metrics, json.dumps(line) + "\n")
    for path in (folder.last, folder.best):
        write_aside(path, lambda aside: part.whole.save_weights(aside))
    tried = "; ".join(f"{l2} {rank:.4f}" for l2, rank in scores.items())
    console.print(f"L-BFGS: {solution.iterations} iterations, L2 {choice.l2:g}"
                  + (f", the best in {FOLDS}-fold cross-validation ({tried})" if tried else ""), highlight=False,
                  soft_wrap=True)
