"""Checkpoints, and the signals after which one is written: a resumed run ends with the same weights, bit for bit.

Keras' own BackupAndRestore leaves out the random generators and what the callbacks remember.
"""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from voc_cls.errors import Interrupted, RunError, reason
from voc_cls.files import write_aside
from voc_cls.training.callbacks import FiniteLoss
from voc_cls.training.distribution import SINGLE, Distribution
from voc_cls.training.run_folder import RunFolder

REMEMBERED = ("best", "wait", "cooldown_counter")
"""Attributes in which Keras' EarlyStopping and ReduceLROnPlateau, and our Validation, keep what they have seen."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Preemption:
    """What a signal does during a run; `requested` is the one that came while stopping was put off.

    Several hosts have to stop after the same step: there only SIGTERM is heeded, by `distribution`.
    """

    def __init__(self, distribution: Distribution = SINGLE,
                 then: str = "continue with `resume` if the run folder exists already") -> None:
        self.distribution, self.then = distribution, then
        self.requested: signal.Signals | None = None
        self._deferred = False

    @contextmanager
    def watching(self, handle_signals: bool = True) -> Iterator[None]:
        """Inside, a signal raises Interrupted, or is noted in `requested` below `deferred`; a second one kills."""
        main = threading.current_thread() is threading.main_thread()  # Python gives signals to it alone
        numbers = SIGNALS if handle_signals and main and self.distribution.hosts == 1 else ()
        before = {number: signal.signal(number, self._receive) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, `requested` has to be checked; a signal that did not end the training is raised at the end."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.requested:
            raise Interrupted(self.requested, "all steps are done and saved, `resume` writes the results")

    def should_stop(self, step: int) -> bool:
        """Whether the run has to stop after `step`; to be called after every step."""
        if self.distribution.stop_reached(step):
            self.requested = signal.SIGTERM
        return self.requested is not None

    def _receive(self, number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        self.requested = signal.Signals(number)
        if not self._deferred:
            raise Interrupted(self.requested, self.then)


@dataclass(frozen=True)
class Saved:
    """What a checkpoint says beside the variables: steps done, whether that was the end, the callbacks' memories."""

    step: int = 0
    finished: bool = False
    memories: dict[str, dict[str, Any]] = field(default_factory=dict)


def training_state(model: keras.Model) -> list[Any]:
    """Every variable that a training step reads or writes, in a fixed order."""
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


def checkpoints(folder: RunFolder) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(path for path in folder.checkpoints.glob("step-*.npz") if re.fullmatch(r"step-\d+", path.stem))


def restore(model: keras.Model, folder: RunFolder, distribution: Distribution, show: Any = print) -> Saved:
    """Restores the newest readable checkpoint and returns what it says; Saved() for a run without checkpoints."""
    state = training_state(model)
    saved, values = distribution.broadcast(lambda: read(folder, len(state), show))
    for variable, value in zip(state, values, strict=False):  # none at all, or all of them
        variable.assign(value)
    return saved


def read(folder: RunFolder, variables: int, show: Any) -> tuple[Saved, list[Any]]:
    """The newest readable checkpoint, and the values of all variables; (Saved(), []) without checkpoints."""
    failures = []
    for path in reversed(checkpoints(folder)):
        try:
            with path.open("rb") as file, np.load(file) as arrays:  # np.load leaves a damaged file open
                if len(arrays.files) != variables + 1:
                    raise RunError(f"{path}: has {len(arrays.files) - 1} variables, this run {variables}; start the "
                                   "run again in another folder")
                saved = Saved(**json.loads(str(arrays["saved"])))
                values = [arrays[f"v{number}"] for number in range(variables)]
        except (OSError, ValueError, KeyError, TypeError, BadZipFile, EOFError) as error:
            failures.append(f"{path}: cannot be read ({reason(error)})")
            continue
        for failure in failures:
            show(f"{failure}; continuing from {path.name}")
        return saved, values
    if failures:
        raise RunError(f"{failures[0]}; delete {folder.checkpoints} to start from the first step")
    return Saved(), []


class Checkpoint(keras.callbacks.Callback):  # type: ignore[misc]
    """Saves after every interval and when a signal came; keeps the callbacks' memories through Keras' resets.

    It is the last of the callbacks, so that it saves what the others have made of the interval.
    """

    def __init__(self, folder: RunFolder, keep: int, loss: FiniteLoss, preemption: Preemption, begun: Saved,
                 others: Sequence[keras.callbacks.Callback]) -> None:
        super().__init__()
        self.folder, self.keep, self.loss, self.steps, self.preemption = folder, keep, loss, loss.steps, preemption
        self.others = {type(other).__name__: other for other in others}
        self.memories = begun.memories
        self.kept_metrics: list[Any] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Gives the callbacks their memories back, which they drop at the beginning of each `fit`."""
        for name, memory in self.memories.items():
            for attribute, value in memory.items():
                setattr(self.others[name], attribute, value)
        if self.steps.within_interval:  # the mean of the loss continues in the middle of an interval
            self.kept_metrics = [keras.ops.convert_to_numpy(value) for value in self.model.metrics_variables]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Puts back the running mean that Keras has just reset."""
        for variable, value in zip(self.model.metrics_variables, self.kept_metrics or (), strict=False):
            variable.assign(value)
        self.kept_metrics = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Leaves where a signal asks for it, unless the interval ends here anyway and wants its validation."""
        stop = self.preemption.should_stop(self.steps.done)
        if stop and self.steps.within_interval and not self.model.stop_training:
            if hasattr(self.model, "jax_state_sync"):  # on JAX the variables are empty while an interval runs
                self.model.jax_state_sync()
            self.loss.look()  # a run that diverged is not saved
            self._save()
            self._leave(self.preemption.requested)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Saves, all or nothing, and drops what is beyond `keep`."""
        self.memories = {name: {attribute: _plain(getattr(other, attribute)) for attribute in REMEMBERED
                                if hasattr(other, attribute)} for name, other in self.others.items()}
        self._save()
        if self.preemption.requested and not self.model.stop_training:
            self._leave(self.preemption.requested)

    def _save(self) -> None:
        if not self.preemption.distribution.is_chief:
            return
        saved = {"step": self.steps.done, "finished": bool(self.model.stop_training), "memories": self.memories}
        arrays = {f"v{number}": keras.ops.convert_to_numpy(variable)
                  for number, variable in enumerate(training_state(self.model))}
        self.folder.checkpoints.mkdir(exist_ok=True)
        path = self.folder.checkpoints / f"step-{self.steps.done:08d}.npz"
        write_aside(path, lambda aside: np.savez(aside, saved=np.array(json.dumps(saved)), **arrays))
        for old in checkpoints(self.folder)[:-self.keep]:
            old.unlink()

    def _leave(self, number: Any) -> None:
        raise Interrupted(number, f"step {self.steps.done} of {self.steps.last} is saved, continue with `resume` "
                                  f"and `out` {self.folder.path}")


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int) else float(value)
