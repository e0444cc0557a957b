"""Compiles a part of the network and runs Keras' `fit` for an exact number of steps, from wherever it stopped."""

from __future__ import annotations

from collections.abc import Callable
from zipfile import BadZipFile

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console

from voc_cls.data.dataset import Dataset
from voc_cls.data.pipeline import Order
from voc_cls.errors import RunError
from voc_cls.evaluation.average_precision import Evaluation, evaluate
from voc_cls.training.callbacks import (
    Checkpoint,
    MetricsLog,
    StopAtStep,
    TrainingProgress,
    Validation,
    training_state,
)
from voc_cls.training.losses import SigmoidCrossEntropy
from voc_cls.training.part import Part
from voc_cls.training.run_folder import RunFolder


def fit(part: Part, order: Order, lr: float, interval: int, val: Dataset | None, folder: RunFolder,
        save_best: Callable[[], None], jit: bool, console: Console) -> None:
    """Trains `part` on `order` with Adam on the sigmoid cross-entropy.

    Metrics and a checkpoint are written every `interval` steps; where the folder has a checkpoint, the run goes on
    from it. `save_best` is called whenever the mean AP on `val` is the highest so far. jit: compile with XLA; on a CPU
    that trains VGG-16 3.5 × slower than oneDNN does.
    """
    optimizer = keras.optimizers.Adam(lr)
    if any(layer.dtype_policy.name == "mixed_float16" for layer in part.model.layers):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)  # Keras asks only the model, which is float32
    part.model.compile(optimizer, SigmoidCrossEntropy(), jit_compile=jit)
    part.model.optimizer.build(part.model.trainable_variables)
    first_step = restore_checkpoint(part.model, folder)
    if first_step >= order.steps:
        console.print(f"all {order.steps:,} steps are done already")
        return
    earlier = folder.rewind_metrics(first_step)
    intervals = -(-order.steps // interval)  # what Keras calls epochs
    progress = TrainingProgress(first_step, order.steps, intervals, console)
    callbacks = [StopAtStep(first_step, order.steps)]
    if val is not None:
        inputs = part.inputs(val)  # computed once where a trunk is frozen
        best = max((line["val_map"] for line in earlier if line["val_map"] is not None), default=-1.0)
        callbacks.append(Validation(lambda: evaluate_part(part, inputs, val), save_best, best))
    seconds_before = earlier[-1]["seconds"] if earlier else 0.0
    callbacks += [progress, MetricsLog(folder, first_step, seconds_before), Checkpoint(folder, first_step),
                  keras.callbacks.TensorBoard(folder.tensorboard, write_graph=False)]
    remaining = Order(order.index[first_step:], order.flip[first_step:])
    try:
        part.model.fit(part.batches(remaining).repeat(), initial_epoch=first_step // interval, epochs=intervals,
                       steps_per_epoch=interval, callbacks=callbacks, verbose=0, shuffle=False)
    finally:
        progress.on_train_end()


def evaluate_part(part: Part, inputs: object, dataset: Dataset) -> Evaluation:
    """Average precisions of the current weights on `dataset`, whose `part.inputs` are `inputs`."""
    return evaluate(dataset, finite(np.asarray(part.model.predict(inputs, verbose=0), np.float32)))


def finite(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`logits` as they are; RunError if training has blown them up."""
    if not np.isfinite(logits).all():
        raise RunError("the training diverged, the network's outputs are NaN or infinite; start anew with a lower --lr")
    return logits


def restore_checkpoint(model: keras.Model, folder: RunFolder) -> int:
    """Puts back what `Checkpoint` saved; returns the number of steps done, 0 where nothing was saved yet."""
    if not folder.checkpoint.exists():
        return 0
    state = training_state(model)
    try:
        with np.load(folder.checkpoint) as saved:
            if len(saved.files) != len(state) + 1:
                raise RunError(f"{folder.checkpoint}: has {len(saved.files) - 1} variables, this run {len(state)}; "
                               "start the run again in another folder")
            for number, variable in enumerate(state):
                variable.assign(saved[f"v{number}"])
            return int(saved["step"])
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise RunError(f"{folder.checkpoint}: cannot be read ({error}); delete it to start from the first step"
                       ) from error
