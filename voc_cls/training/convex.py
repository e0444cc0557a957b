"""A linear classifier at the optimum of its loss: L-BFGS on the features of the frozen layers, in seconds.

The loss is the one that gradient descent minimises, with the same penalty (`l2` times the sum of squares of the kernel,
as keras.regularizers.L2). It is convex, so there is one optimum, and neither a rate nor a number of steps to choose.
With the attention of `csra` it is so for given places of the highest scores: those by the optimum without attention.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy.optimize import minimize  # type: ignore[import-untyped]
from scipy.special import expit, log_softmax
from threadpoolctl import threadpool_limits

from voc_cls.console import progress_bar, say
from voc_cls.data.dataset import IGNORED, Dataset
from voc_cls.data.feature_cache import CachedRows, vectors
from voc_cls.errors import UsageError
from voc_cls.evaluation.tasks import score
from voc_cls.files import write_aside, write_text
from voc_cls.nets.network import Network
from voc_cls.training.backbone import BATCH_SIZE, feature_rows
from voc_cls.training.callbacks import PredictionProgress
from voc_cls.training.config import ResolvedConfig
from voc_cls.training.devices import compiles
from voc_cls.training.losses import MultiLabelLoss, SingleLabelLoss, build_loss, squared_hinge
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.splits import CrossValidation, Fold, Splits
from voc_cls.training.trainable_part import TrainablePart

Floats = npt.NDArray[np.float32]
Rows = CachedRows | npt.NDArray[Any]
ONE_THREAD = threadpool_limits.wrap(limits=1, user_api="blas")
"""Matrices are small here; threads that wait for each other cost more."""
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

    features: [N · views, D], or [classes, N · views, D] where each class has its own; the views of an image side by
    side, less their `mean` [D] and turned to their principal `axes` [D, D] (None: more than MOST_AXES, not turned):
    `solve` knows the curvature along these, so that L-BFGS needs a tenth of the iterations. targets: [N · views,
    classes], 0 to 1. counts: as targets, of a softmax [N · views, 1]; 0 where an entry is ignored.
    """

    features: Floats
    mean: Floats
    axes: Floats | None
    targets: Floats
    counts: Floats
    loss: Literal["sigmoid", "softmax", "hinge"]
    views: int

    def left_out(self, fold: Fold, l2: float, start: Solution | None = None) -> tuple[Floats, Solution]:
        """Logits of the images that `fold` leaves out, by their first view, and the optimum for the others."""
        rest, left_out = fold
        rows = (rest[:, None] * self.views + np.arange(self.views)).ravel()
        part = replace(self, features=self.features[rows], targets=self.targets[rows], counts=self.counts[rows])
        solution = part.solve(l2, start)
        return solution.logits(self.features[left_out * self.views]), solution

    def back(self, solution: Solution) -> Solution:
        """The same classifier on the features as they were."""
        kernel = solution.weights[:-1] if self.axes is None else self.axes @ solution.weights[:-1]
        return replace(solution, weights=np.concatenate([kernel, solution.weights[-1:] - self.mean @ kernel]))

    @ONE_THREAD  # type: ignore[untyped-decorator]
    def solve(self, l2: float, start: Solution | None = None) -> Solution:
        """The optimum, sought from `start` or from zeros."""
        (rows, dimensions), classes = self.features.shape[-2:], self.targets.shape[1]
        divisor = rows if self.loss == "softmax" else rows * classes
        bend = 2.0 if self.loss == "hinge" else 0.25  # the second derivative of the loss of an entry at most
        # the loss is curved by at most this along each weight; in these units all are alike
        curvature = np.square(self.features).sum(axis=-2, dtype=np.float64).T.reshape(dimensions, -1) * bend / divisor
        units = np.concatenate([(curvature + 2 * l2) * np.ones(classes), [[rows * bend / divisor] * classes]]) ** -0.5

        def value_and_slopes(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            weights = units * flat.reshape(dimensions + 1, classes)
            logits = products(self.features, weights[:-1].astype(np.float32)) + weights[-1].astype(np.float32)
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
            slopes = np.concatenate([products(np.swapaxes(self.features, -1, -2), errors),
                                     errors.sum(axis=0, keepdims=True)]).astype(np.float64)
            slopes[:-1] += 2 * l2 * weights[:-1]
            value = (losses * self.counts).sum(dtype=np.float64) / divisor + l2 * np.square(weights[:-1]).sum()
            return float(value), (units * slopes).ravel()

        first = np.zeros((dimensions + 1, classes)) if start is None else start.weights / units
        found = minimize(value_and_slopes, first.ravel(), jac=True, method="L-BFGS-B",
                         options={"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS, "ftol": 1e-9, "gtol": 1e-6})
        weights = units * found.x.reshape(first.shape)
        return Solution(weights.astype(np.float32), int(found.nit), float(found.fun))


def products(features: Floats, columns: Floats) -> Floats:
    """`features` @ `columns`: one matrix [N, D], or one for each column [classes, N, D], times [D, classes]."""
    return features @ columns if features.ndim == 2 else (features @ columns.T[:, :, None])[:, :, 0].T


@ONE_THREAD  # type: ignore[untyped-decorator]
def problem(features: Floats, train: Dataset, loss: MultiLabelLoss | SingleLabelLoss) -> Problem:
    """`loss`, a convex one, on the features [N · views, D] of `train`, the views of an image side by side."""
    views, axes = len(features) // len(train), None
    features = features - (mean := features.mean(axis=0))
    if features.shape[1] <= MOST_AXES:
        axes = np.linalg.eigh((features.T @ features).astype(np.float64))[1].astype(np.float32)
        features = features @ axes
    labels = np.repeat(train.targets, views, axis=0)
    shown, kinds = np.maximum(labels, 0), len(train.classes) if train.single_label else 2
    targets = (shown * (1 - loss.label_smoothing) + loss.label_smoothing / kinds).astype(np.float32)
    if train.single_label:
        weights = np.ones(kinds, np.float32) if loss.weights is None else loss.weights
        return Problem(features, mean, axes, targets, shown @ weights[:, None], "softmax", views)
    counts = (labels != IGNORED).astype(np.float32)
    if loss.weights is not None:
        counts *= np.where(shown == 1, loss.weights[1], loss.weights[0])
    return Problem(features, mean, axes, targets, counts, "hinge" if loss.losses is squared_hinge else "sigmoid", views)


@ONE_THREAD  # type: ignore[untyped-decorator]
def attended(whole: Problem, grids: Rows, kernel: Floats, attention: float) -> Problem:
    """`whole` with features of each class's own: of the `grids` [N · views, h, w, D] the mean, and `attention` times
    what is at the place where the class scores highest with `kernel` [D, classes]."""
    features = np.empty((kernel.shape[1], *whole.features.shape[-2:]), np.float32)
    for row in range(len(grids)):
        places = np.asarray(grids[row], np.float32).reshape(-1, len(kernel))
        own = places.mean(axis=0) + np.float32(attention) * places[(places @ kernel).argmax(axis=0)] - whole.mean
        features[:, row] = own if whole.axes is None else own @ whole.axes
    return replace(whole, features=features)


def choose_l2(whole: Problem, train: Dataset, seed: int, group: str, console: Console
              ) -> tuple[float, dict[float, float]]:
    """The penalty with the best mean score on the parts left out in turn, and the score of each one that was tried; of
    none where there are too few images. All views of an image, and images of a `group`, are in one part."""
    unit = float(np.square(whole.features).sum(axis=1).mean() + np.square(whole.mean).sum()) or 1.0
    try:
        parts = CrossValidation.draw(train, FOLDS, seed, group)
    except UsageError:
        return PLAIN_STRENGTH * unit, {}
    solved: list[Solution | None] = [None] * FOLDS
    scores: dict[float, float] = {}
    with progress_bar(console) as bar:
        task = bar.add_task("cross-validation", total=FOLDS * len(STRENGTHS), note="fits")
        for l2 in (float(f"{strength * unit:.3g}") for strength in STRENGTHS):
            ranks = []
            for number, fold in enumerate(parts.folds):
                logits, solved[number] = whole.left_out(fold, l2, solved[number])
                ranks.append(parts.score(fold, logits))
                bar.advance(task)
            scores[l2] = float(np.mean(ranks))
            best = max(scores, key=scores.__getitem__)
            if list(scores).index(best) < len(scores) - WORSE:
                break
    return best, scores


def solve_classifier(network: Network, features: Rows, l2: float | None, config: ResolvedConfig, splits: Splits,
                     folder: RunFolder, console: Console, progress: Console) -> Solution:
    """Gives the classifier of `network` its best weights by the training images' `features` [N · views, …, D], with the
    penalty `l2` or the best one, of csra without attention; says and records how."""
    train, attention, classifier = splits.train, network.attention, network.model.get_layer(network.spec.head)
    whole = problem(np.float32(1 + attention) * vectors(features), train, build_loss(config.loss, train))
    l2, tried = (l2, {}) if l2 is not None else choose_l2(
        whole, train, config.training.seed, config.settings.dataset.group, progress)
    best: Solution = whole.solve(l2)
    if attention:
        best = attended(whole, features, whole.back(best).weights[:-1], attention).solve(l2, best)
    solution: Solution = whole.back(best)
    classifier.kernel.assign(solution.weights[:-1].reshape(classifier.kernel.shape))
    classifier.bias.assign(solution.weights[-1] / np.float32(1 + attention))  # it is added at every place
    scores = {f"{penalty:g}": round(rank, 5) for penalty, rank in tried.items()}
    folder.record("solver", {"l2": l2, "iterations": solution.iterations, "cross_validation": scores})
    say(console, f"L-BFGS: {solution.iterations} iterations, L2 {l2:g}" + (
        f", the best of {len(tried)} in {FOLDS}-fold cross-validation ({tried[l2]:.4f})" if tried else ""))
    return solution


def solve_head(part: TrainablePart, rows: CachedRows, network: Network, config: ResolvedConfig, splits: Splits,
               folder: RunFolder, console: Console, progress: Console) -> None:
    """Gives the classifier of `network`, all that is trained of `part`, its best weights by the features `rows`, and
    writes what a run folder has of a training. A run that is interrupted starts anew, with the same result."""
    started = time.monotonic()
    solution = solve_classifier(network, rows, config.settings.training.l2, config, splits, folder, console, progress)
    line = {"step": solution.iterations, "seconds": round(time.monotonic() - started, 3), "loss": solution.loss}
    if splits.val is not None:
        line |= score(splits.val, part.logits(part.shared_inputs(splits.val), len(splits.val))).metrics
    write_text(folder.metrics, json.dumps(line) + "\n")
    for path in (folder.last, folder.best):
        write_aside(path, lambda aside: part.whole.save_weights(aside))


def start_head(part: TrainablePart, network: Network, first: str, config: ResolvedConfig, splits: Splits,
               folder: RunFolder, console: Console, progress: Console) -> None:
    """Gives the head of `network` its best weights for the layers below as they are: gradients of a random head would
    damage them (linear probing, then fine-tuning: Kumar et al. 2022, arXiv 2202.10054).

    `first`: the first scope that is trained.
    """
    head = network.spec.head
    if part.rows is not None and first == head:
        features: Rows = part.rows
    else:
        below = keras.Model(network.model.input if part.rows is None else network.entries[first], network.entries[head])
        below.compile(jit_compile=compiles())
        inputs = part.inputs(splits.train) if part.rows is None else feature_rows(part.rows, BATCH_SIZE)
        bar = PredictionProgress("features below the head", len(splits.train) if part.rows is None else len(part.rows))
        with part.distribution.alone(part.model), bar.bar:
            features = below.predict(inputs, verbose=0, callbacks=[bar])
    solve_classifier(network, features, None, config, splits, folder, console, progress)
