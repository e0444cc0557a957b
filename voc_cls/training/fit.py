"""Runs Keras' `fit` on a part of the network for an exact number of steps, from wherever it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console

from voc_cls.data.dataset import Dataset
from voc_cls.data.pipeline import Order
from voc_cls.evaluation.tasks import Score, score
from voc_cls.files import write_aside
from voc_cls.training.callbacks import RANK, FiniteLoss, MetricsLog, Steps, TrainingProgress, UnfetchedLogs, Validation
from voc_cls.training.checkpoint import Checkpoint, Preemption, Saved, restore
from voc_cls.training.config import ResolvedTraining
from voc_cls.training.devices import compiles
from voc_cls.training.optimizer import averaged_weights, build_optimizer
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.splits import Splits
from voc_cls.training.tensorboard import TensorBoardLog
from voc_cls.training.tracking import Tracker
from voc_cls.training.trainable_part import TrainablePart


@dataclass(frozen=True)
class Fit:
    """Trains `part`, with a validation and a checkpoint after every interval, which is what Keras calls an epoch."""

    part: TrainablePart
    config: ResolvedTraining
    splits: Splits
    order: Order
    """Which images of the training split each step sees."""
    loss: keras.losses.Loss
    factors: Sequence[float]
    """Of the learning rate, one for each trained variable of the part."""
    folder: RunFolder
    preemption: Preemption
    console: Console
    tracker: Tracker

    def run(self) -> None:
        """Trains from the newest checkpoint, or from the start; saves the best and the last weights of the network.

        Interrupted after a checkpoint, where a signal came; RunError where the loss is NaN or infinite.
        """
        self.compile()
        begun = restore(self.part.model, self.folder, self.part.distribution, self.console.print)
        if begun.finished:
            self.console.print(f"all {begun.step:,} steps are done already")
        else:
            self._train(begun)
        self._save(self.folder.last, self.config.eval_weights)
        if average := self.config.average:
            other = average if self.config.eval_weights == "raw" else "raw"
            self._save(self.folder.last_of(other), other)

    def compile(self) -> None:
        """Gives the model its optimiser, built, and its loss."""
        model, replicas = self.part.model, self.part.distribution.replicas
        # Keras looks for float16 only in the model's own policy, which is float32
        float16 = any(layer.dtype_policy.name == "mixed_float16" for layer in model.layers)
        with self.part.distribution.scope():
            model.compile(build_optimizer(self.config, self.factors, float16), self.loss,
                          jit_compile=compiles(replicas))
            model.optimizer.build(model.trainable_variables)

    def _train(self, begun: Saved) -> None:
        """The steps that are left after `begun`."""
        part, folder, distribution, length = self.part, self.folder, self.part.distribution, self.config.interval
        kept = distribution.broadcast(lambda: folder.rewind_metrics(begun.step))
        steps = Steps(begun.step, self.order.steps, length)
        intervals = -(-steps.last // length)
        validation = None if self.splits.val is None else self._validation(self.splits.val)
        deciding = [*([] if validation is None else [validation]), *self._schedules()]
        board = TensorBoardLog(folder.tensorboard, lambda: steps.done, part.whole, self.splits.val,
                               lambda: validation and validation.latest, lambda: part.pictures(self.order))
        writing = [MetricsLog(folder, steps, kept[-1]["seconds"] if kept else 0.0), board,
                   keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: self.tracker.send())]
        progress = TrainingProgress(steps, intervals, self.console)
        finite_loss = FiniteLoss(steps, self.order, self.splits.train.paths)
        callbacks = [steps, finite_loss, *deciding, progress, *(writing if distribution.is_chief else []),
                     Checkpoint(folder, self.config.keep_checkpoints, finite_loss, self.preemption, begun, deciding)]
        with progress.bar, self.preemption.deferred(), distribution.scope():
            while steps.done < steps.last and not part.model.stop_training:
                # an interval that was left in the middle is finished first: validations stay at the same steps
                interval = steps.done // length
                epochs = interval + 1 if steps.within_interval else intervals
                order = self.order.steps_between(steps.done, steps.last).shard(distribution.rank, distribution.hosts)
                part.model.fit(part.batches(order).repeat(), initial_epoch=interval, epochs=epochs,
                               steps_per_epoch=length - steps.done % length, verbose=0, shuffle=False,
                               callbacks=UnfetchedLogs(callbacks, add_history=True, model=part.model, epochs=epochs))

    def _validation(self, val: Dataset) -> Validation:
        inputs = self.part.shared_inputs(val)  # computed once where a backbone is frozen

        def predict() -> npt.NDArray[np.float32]:
            with averaged_weights(self.part.model.optimizer, self.config.eval_weights):
                return self.part.logits(inputs, len(val))

        def scored(logits: npt.NDArray[np.float32]) -> Score:
            """With the loss that is trained, without penalties on the weights."""
            result, loss = score(val, logits), float(keras.ops.convert_to_numpy(self.loss(val.targets, logits)))
            rank = -loss if self.config.monitor == "loss" else result.rank
            return replace(result, rank=rank, metrics={**result.metrics, "val_loss": loss})

        return Validation(predict, scored, lambda: self._save(self.folder.best, self.config.eval_weights))

    def _schedules(self) -> list[keras.callbacks.Callback]:
        """What lowers the rate or ends the run when the validation, or without one the loss, stops improving."""
        config, callbacks = self.config, []
        watched: dict[str, Any] = ({"monitor": "loss", "mode": "min"} if self.splits.val is None
                                   else {"monitor": RANK, "mode": "max"})
        if config.schedule == "plateau":
            callbacks.append(keras.callbacks.ReduceLROnPlateau(
                factor=config.plateau_factor, min_delta=0.0, patience=config.plateau_patience, **watched))
        if config.early_stopping is not None:
            callbacks.append(keras.callbacks.EarlyStopping(min_delta=config.min_delta, patience=config.early_stopping,
                                                           **watched))
        return callbacks

    def _save(self, path: Path, kind: str) -> None:
        """Writes the weights of the whole network, raw, ema or swa, all or nothing."""
        with averaged_weights(self.part.model.optimizer, kind):
            if self.part.distribution.is_chief:
                write_aside(path, lambda aside: self.part.whole.save_weights(aside))
