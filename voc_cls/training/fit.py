"""Compiles a part of the network and runs Keras' `fit` for an exact number of steps, from wherever it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console

from voc_cls.data.dataset import Dataset
from voc_cls.data.pipeline import Order
from voc_cls.errors import RunError
from voc_cls.evaluation.tasks import score
from voc_cls.files import write_aside
from voc_cls.training.callbacks import RANK, FiniteLoss, MetricsLog, Steps, TrainingProgress, Validation
from voc_cls.training.checkpoint import Checkpoint, Preemption, Saved, restore
from voc_cls.training.config import ResolvedTraining
from voc_cls.training.optimizer import averaged_weights, build_optimizer
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.tensorboard import TensorBoardLog
from voc_cls.training.trainable_part import TrainablePart


@dataclass(frozen=True)
class Plan:
    """What is trained how: `factors` are of the learning rate, one for each trained variable of the part."""

    config: ResolvedTraining
    order: Order
    pictures: Sequence[Path]
    """Of the training split: what `order.index` counts."""
    interval: int
    """Steps between two validations with a checkpoint each: what Keras calls an epoch."""
    loss: keras.losses.Loss
    factors: Sequence[float]
    jit: bool
    """Compile with XLA. On a CPU that trains VGG-16 3.5 × slower than oneDNN does."""

    @property
    def intervals(self) -> int:
        """Number of intervals, the last of them may be shorter."""
        return -(-self.order.steps // self.interval)


def fit(part: TrainablePart, plan: Plan, val: Dataset | None, folder: RunFolder, preemption: Preemption,
        console: Console) -> None:
    """Trains `part` by `plan`, with a checkpoint in `folder` after every interval, or from the one that is there.

    The whole network's weights are saved: the best by their score on `val`, the last ones at the end. Interrupted,
    after a checkpoint, where a signal came; RunError where the loss is NaN or infinite.
    """
    with part.distribution.scope():
        compile_part(part.model, plan)
    begun = restore(part.model, folder, part.distribution, console.print)
    if begun.finished:
        console.print(f"all {begun.step:,} steps are done already")
    else:
        train(part, plan, begun, val, folder, preemption, console)
    with evaluated_weights(part.model, plan.config):
        save(part, folder.last)
    if plan.config.ema is not None:
        if plan.config.eval_weights == "ema":
            save(part, folder.last_of("raw"))
        else:
            with averaged_weights(part.model.optimizer):
                save(part, folder.last_of("ema"))


def compile_part(model: keras.Model, plan: Plan) -> None:
    """Gives `model` its optimiser, built, and its loss."""
    # Keras looks for float16 only in the model's own policy, which is float32
    float16 = any(layer.dtype_policy.name == "mixed_float16" for layer in model.layers)
    model.compile(build_optimizer(plan.config, plan.factors, float16), plan.loss, jit_compile=plan.jit)
    model.optimizer.build(model.trainable_variables)


def save(part: TrainablePart, path: Path) -> None:
    """Writes the weights of the whole network, all or nothing."""
    if not part.distribution.is_chief:
        return
    write_aside(path, lambda aside: part.whole.save_weights(aside))


def train(part: TrainablePart, plan: Plan, begun: Saved, val: Dataset | None, folder: RunFolder, preemption: Preemption,
          console: Console) -> None:
    """The steps that are left after `begun`."""
    distribution = part.distribution
    earlier = distribution.broadcast(lambda: folder.rewind_metrics(begun.step))
    steps = Steps(begun.step, plan.order.steps, plan.interval)
    progress = TrainingProgress(steps, plan.intervals, console)
    deciding = decisions(part, plan, val, folder)
    validation = next((callback for callback in deciding if isinstance(callback, Validation)), None)
    board = TensorBoardLog(folder.tensorboard, lambda: steps.done, part.whole, val,
                           lambda: validation and validation.latest, lambda: part.pictures(plan.order))
    written = [MetricsLog(folder, steps, earlier[-1]["seconds"] if earlier else 0.0), board]
    callbacks = [steps, FiniteLoss(steps, plan.order, plan.pictures), *deciding, progress,
                 *(written if distribution.is_chief else []),
                 Checkpoint(folder, plan.config.keep_checkpoints, steps, preemption, begun, deciding)]
    with progress, preemption.deferred(), distribution.scope():
        while steps.done < steps.last and not part.model.stop_training:
            # an interval that was left in the middle is finished first: validations stay at the same steps
            rest = plan.interval - steps.done % plan.interval
            interval = steps.done // plan.interval
            order = plan.order.steps_between(steps.done, steps.last).shard(distribution.rank, distribution.hosts)
            part.model.fit(part.batches(order).repeat(),
                           initial_epoch=interval, epochs=interval + 1 if steps.within_interval else plan.intervals,
                           steps_per_epoch=rest, callbacks=callbacks, verbose=0, shuffle=False)


def decisions(part: TrainablePart, plan: Plan, val: Dataset | None, folder: RunFolder
              ) -> list[keras.callbacks.Callback]:
    """The callbacks that look at an interval's figures and decide: the best weights, a lower rate, an early end."""
    config, chosen = plan.config, []
    if val is not None:
        inputs = shared_inputs(part, val)  # computed once where a backbone is frozen

        def predict() -> npt.NDArray[np.float32]:
            with evaluated_weights(part.model, config):
                return predict_logits(part, inputs, len(val))

        def save_best() -> None:
            with evaluated_weights(part.model, config):
                save(part, folder.best)

        chosen.append(Validation(predict, lambda logits: score(val, logits), save_best))
    watched: dict[str, Any] = ({"monitor": "loss", "mode": "min"} if val is None
                               else {"monitor": RANK, "mode": "max"})
    if config.schedule == "plateau":
        chosen.append(keras.callbacks.ReduceLROnPlateau(factor=config.plateau_factor, min_delta=0.0,
                                                        patience=config.plateau_patience, **watched))
    if config.early_stopping is not None:
        chosen.append(keras.callbacks.EarlyStopping(patience=config.early_stopping, **watched))
    return chosen


def evaluated_weights(model: keras.Model, config: ResolvedTraining) -> AbstractContextManager[None]:
    """Inside, `model` has the weights that `eval_weights` names."""
    return averaged_weights(model.optimizer) if config.eval_weights == "ema" else nullcontext()


def shared_inputs(part: TrainablePart, dataset: Dataset) -> object:
    """What this process predicts of `dataset`."""
    mine = np.arange(len(dataset))[part.distribution.share(len(dataset))]
    return part.inputs(dataset.subset(mine, dataset.name))


def predict_logits(part: TrainablePart, inputs: object, count: int) -> npt.NDArray[np.float32]:
    """float32 [count, classes] of the current weights, on every process; inputs: what `shared_inputs` gave."""
    with part.distribution.alone(part.model):
        logits = np.asarray(part.model.predict(inputs, verbose=0), np.float32)
    return finite(part.distribution.gather(logits, count))


def finite(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`logits` as they are; RunError if training has blown them up."""
    if not np.isfinite(logits).all():
        raise RunError("the training diverged, the network's outputs are NaN or infinite; start again with a lower "
                       "`lr`")
    return logits
