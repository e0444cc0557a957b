"""Keras callbacks: the progress bar, the exact number of steps, the metrics file, the checkpoint, the best weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from voc_cls.evaluation.average_precision import Evaluation
from voc_cls.files import write_aside
from voc_cls.training.run_folder import RunFolder

LINES_WITHOUT_TERMINAL = 20


def progress_bar(console: Console) -> Progress:
    """The project's progress bar; silent unless `console` is a terminal."""
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                    TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
                    console=console, disable=not console.is_terminal)


class PredictionProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """A bar over the pictures of one or more `predict` calls; use it as a context manager around them."""

    def __init__(self, title: str, pictures: int) -> None:
        super().__init__()
        self.pictures = pictures
        self.progress = progress_bar(Console(stderr=True))
        self.task = self.progress.add_task(title, total=pictures, note="pictures")

    def __enter__(self) -> PredictionProgress:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.progress.update(self.task, completed=self.pictures)
        self.progress.stop()

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Counts the pictures of the batch."""
        self.progress.advance(self.task, len(next(iter((logs or {}).values()), ())))


class TrainingProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """One bar over all steps with the loss and the validation mAP; without a terminal, some twenty lines instead."""

    def __init__(self, first_step: int, steps: int, epochs: int, console: Console) -> None:
        super().__init__()
        self.step, self.steps, self.epochs, self.console = first_step, steps, epochs, console
        self.progress = progress_bar(console)
        self.task = self.progress.add_task("train", total=steps, completed=first_step, note="")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Starts the bar."""
        self.progress.start()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Moves it."""
        self.step += 1
        self.progress.update(self.task, completed=self.step)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Shows the figures of the interval."""
        note = " ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items() if name in ("loss", "val_map"))
        self.progress.update(self.task, note=note)
        every = max(1, -(-self.epochs // LINES_WITHOUT_TERMINAL))
        if not self.console.is_terminal and ((epoch + 1) % every == 0 or self.step == self.steps):
            self.console.print(f"step {self.step}/{self.steps} {note}")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Gives the terminal back; called once more after an error."""
        self.progress.stop()


class StopAtStep(keras.callbacks.Callback):  # type: ignore[misc]
    """Ends training after exactly `steps` steps, in the middle of an epoch if need be."""

    def __init__(self, first_step: int, steps: int) -> None:
        super().__init__()
        self.left = steps - first_step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Counts."""
        self.left -= 1
        if self.left <= 0:
            self.model.stop_training = True


class Validation(keras.callbacks.Callback):  # type: ignore[misc]
    """After every interval, the mean AP on the validation split goes into the logs; the best weights are kept."""

    def __init__(self, evaluate: Callable[[], Evaluation], save_best: Callable[[], None], best: float) -> None:
        super().__init__()
        self.evaluate, self.save_best, self.best = evaluate, save_best, best

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Evaluates; callbacks after this one see `val_map`."""
        mean = self.evaluate().map
        if logs is not None:
            logs["val_map"] = mean
        if mean > self.best or self.best < 0:  # NaN, where no class has positives: keep some weights all the same
            self.best = max(mean, self.best) if isfinite(mean) else self.best
            self.save_best()


class MetricsLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Appends a line of JSON to metrics.jsonl after every interval: step, seconds, lr, loss, val_map."""

    def __init__(self, folder: RunFolder, first_step: int, seconds_before: float) -> None:
        super().__init__()
        self.folder, self.step, self.started = folder, first_step, time.monotonic() - seconds_before

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Counts."""
        self.step += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Writes the line."""
        values = {name: round(float(value), 6) if isfinite(value) else None for name, value in (logs or {}).items()}
        line = {"step": self.step, "seconds": round(time.monotonic() - self.started, 3),
                "lr": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)), **values}
        with self.folder.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class Checkpoint(keras.callbacks.Callback):  # type: ignore[misc]
    """After every interval, all that the next step depends on: weights, optimiser, dropout's random generators.

    Keras' own BackupAndRestore leaves the generators out, so its runs go on with other dropout masks.
    """

    def __init__(self, folder: RunFolder, first_step: int) -> None:
        super().__init__()
        self.folder, self.step = folder, first_step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Counts."""
        self.step += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Saves, all or nothing."""
        state = {f"v{number}": keras.ops.convert_to_numpy(variable)
                 for number, variable in enumerate(training_state(self.model))}
        self.folder.checkpoint.parent.mkdir(exist_ok=True)
        write_aside(self.folder.checkpoint, partial(_savez, state | {"step": np.int64(self.step)}))


def _savez(arrays: dict[str, Any], file: Path) -> None:
    np.savez(file, **arrays)


def training_state(model: keras.Model) -> list[Any]:
    """Every variable that a training step reads or writes, in a fixed order."""
    return [*model.variables, *model.optimizer.variables]
