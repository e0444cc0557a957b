"""Keras callbacks: the count of steps, the watch over the loss, the validation, the metrics file, progress bars."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console

from voc_cls.console import progress_bar
from voc_cls.data.pipeline import Order
from voc_cls.errors import RunError
from voc_cls.evaluation.tasks import Score
from voc_cls.training.run_folder import RunFolder

RANK = "val_rank"
"""Key of Keras' logs by which the best weights, the plateau and the early end are decided."""
UNSAID = (RANK, "learning_rate")
"""Keys that are for callbacks alone; the learning rate is written under another name."""
LINES_WITHOUT_TERMINAL = 20
LOSS_SECONDS, LOSS_STEPS = 1.0, 32
"""The loss is fetched after so many seconds or steps, whichever comes first. An accelerator, which is given steps ahead
of time, has nothing to do meanwhile; the number of steps also limits how many batches wait in its memory."""


class UnfetchedLogs(keras.callbacks.CallbackList):  # type: ignore[misc]
    """Callbacks that get the logs of a step as they are, on the device; Keras' own list fetches them every time."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs)


class Steps(keras.callbacks.Callback):  # type: ignore[misc]
    """Counts the steps of the whole run, over resumes, and ends it after exactly `last`; the first of the callbacks."""

    def __init__(self, done: int, last: int, interval: int) -> None:
        super().__init__()
        self.done, self.last, self.interval = done, last, interval

    @property
    def within_interval(self) -> bool:
        """Whether the next step continues an interval that has begun."""
        return self.done % self.interval != 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.done += 1
        if self.done >= self.last:
            self.model.stop_training = True


class FiniteLoss(keras.callbacks.Callback):  # type: ignore[misc]
    """RunError with the step and its pictures when the loss was NaN or infinite; it is looked at now and then."""

    def __init__(self, steps: Steps, order: Order, pictures: Sequence[Path]) -> None:
        super().__init__()
        self.steps, self.order, self.pictures = steps, order, pictures
        self.unseen: list[tuple[int, Any]] = []
        self.looked = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.unseen.append((self.steps.done, (logs or {}).get("loss", 0.0)))
        if len(self.unseen) >= LOSS_STEPS or time.monotonic() - self.looked >= LOSS_SECONDS:
            self.look()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.look()

    def look(self) -> None:
        """Fetches the loss: the interval's mean so far, which stays NaN or infinite once it is."""
        if self.unseen and not isfinite(self.unseen[-1][1]):
            step, loss = next((step, float(loss)) for step, loss in self.unseen if not isfinite(loss))
            names = ", ".join(self.pictures[index].name for index in self.order.index[step - 1])
            raise RunError(f"the training diverged: the loss is {loss} at step {step}, whose pictures are {names}; "
                           "start again with a lower `lr` or with `clip_norm`, or look at these pictures")
        self.unseen.clear()
        self.looked = time.monotonic()


class Validation(keras.callbacks.Callback):  # type: ignore[misc]
    """After every interval the score of the validation split goes into the logs; the best weights are kept.

    `latest` is the latest validation's score and its logits, float32 [N, classes]; `best` the highest rank so far.
    """

    def __init__(self, predict: Callable[[], npt.NDArray[np.float32]],
                 score: Callable[[npt.NDArray[np.float32]], Score], save_best: Callable[[], None]) -> None:
        super().__init__()
        self.predict, self.score, self.save_best = predict, score, save_best
        self.best: float | None = None
        self.latest: tuple[Score, npt.NDArray[np.float32]] | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Evaluates; callbacks after this one see the score's metrics and its RANK."""
        logits = self.predict()
        self.latest = score, _ = self.score(logits), logits
        if logs is not None:
            logs.update(score.metrics, **{RANK: score.rank})
        if self.best is None or score.rank > self.best:
            self.best = score.rank if isfinite(score.rank) else None  # NaN does not compare: keep the latest weights
            self.save_best()


class MetricsLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Appends a line of JSON to metrics.jsonl after every interval: step, seconds, lr, loss, the score's metrics."""

    def __init__(self, folder: RunFolder, steps: Steps, seconds_before: float) -> None:
        super().__init__()
        self.folder, self.steps, self.started = folder, steps, time.monotonic() - seconds_before

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        values = {name: round(float(value), 6) if isfinite(value) else None for name, value in (logs or {}).items()
                  if name not in UNSAID}
        line = {"step": self.steps.done, "seconds": round(time.monotonic() - self.started, 3),
                "lr": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)), **values}
        with self.folder.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class PredictionProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """A bar over the pictures of one or more `predict` calls, which happen inside the context `bar`."""

    def __init__(self, title: str, pictures: int) -> None:
        super().__init__()
        self.bar = progress_bar(Console(stderr=True))
        self.task = self.bar.add_task(title, total=pictures, note="pictures")

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.bar.advance(self.task, len(next(iter((logs or {}).values()), ())))


class TrainingProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """One bar over all steps with the loss and the validation's figures; without a terminal, some twenty lines instead.

    Training happens inside the context `bar`, which gives the terminal back after an error too.
    """

    def __init__(self, steps: Steps, intervals: int, console: Console) -> None:
        super().__init__()
        self.steps, self.intervals, self.console = steps, intervals, console
        self.bar = progress_bar(console)
        self.task = self.bar.add_task("train", total=steps.last, completed=steps.done, note="")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.bar.update(self.task, completed=self.steps.done)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        note = " ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items() if name not in UNSAID)
        self.bar.update(self.task, note=note)
        every = max(1, -(-self.intervals // LINES_WITHOUT_TERMINAL))
        if self.bar.disable and ((epoch + 1) % every == 0 or self.model.stop_training):
            self.console.print(f"step {self.steps.done}/{self.steps.last} {note}")
