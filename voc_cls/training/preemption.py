"""SIGTERM and Ctrl-C: at once where nothing would be lost, after a checkpoint in the middle of training."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from voc_cls.errors import Interrupted
from voc_cls.training.distribution import SINGLE, Distribution

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Preemption:
    """What a signal does during a run; `requested` is the one that came while stopping was put off.

    Several hosts have to stop after the same step: there only SIGTERM is heeded, by `distribution`.
    """

    def __init__(self, distribution: Distribution = SINGLE) -> None:
        self.distribution = distribution
        self.requested: signal.Signals | None = None
        self._deferred = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, a signal raises Interrupted, or is noted in `requested` below `deferred`; a second one kills."""
        if threading.current_thread() is not threading.main_thread():  # Python gives signals to the main thread alone
            yield
            return
        mine = SIGNALS if self.distribution.hosts == 1 else ()
        before = {number: signal.signal(number, self._receive) for number in mine}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, `requested` has to be looked at; what nobody acted on is raised at the end."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.requested:
            raise Interrupted(self.requested, "all steps are done and saved, --resume writes the results")

    def asked(self, step: int) -> bool:
        """Whether the run is to stop after `step`; to be asked after every step."""
        if self.distribution.stop_reached(step):
            self.requested = signal.SIGTERM
        return self.requested is not None

    def _receive(self, number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        self.requested = signal.Signals(number)
        if not self._deferred:
            raise Interrupted(self.requested, "go on with --resume if the run folder exists already")
