"""Progress bars (rich): over the pictures of a prediction, over the steps of a training."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from voc_cls.training.callbacks import UNSAID, Steps

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
    """One bar over all steps with the loss and the validation's figures; without a terminal, some twenty lines instead.

    A context manager: Keras leaves `on_train_end` out after an error, and the terminal has to be given back.
    """

    def __init__(self, steps: Steps, intervals: int, console: Console) -> None:
        super().__init__()
        self.steps, self.intervals, self.console = steps, intervals, console
        self.progress = progress_bar(console)
        self.task = self.progress.add_task("train", total=steps.last, completed=steps.done, note="")

    def __enter__(self) -> TrainingProgress:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Moves it."""
        self.progress.update(self.task, completed=self.steps.done)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Shows the figures of the interval."""
        note = " ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items() if name not in UNSAID)
        self.progress.update(self.task, note=note)
        every = max(1, -(-self.intervals // LINES_WITHOUT_TERMINAL))
        if not self.console.is_terminal and ((epoch + 1) % every == 0 or self.model.stop_training):
            self.console.print(f"step {self.steps.done}/{self.steps.last} {note}")
