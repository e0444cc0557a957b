"""One request, by whichever port it came: who asks, how long they wait, and where its time goes."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

Stage = Literal["decode", "queue", "engine"]
"""Where a picture spends its time, one after the other."""


def _unobserved(stage: Stage, begin: float, end: float) -> None:
    """For calls that nobody measures."""


@dataclass
class RequestContext:
    """What travels with a request through the server."""

    id: str
    """The caller's x-request-id, or a new one; it is in the log and in the answer's metadata."""
    method: str
    """/voc_cls.v1.Classifier/Classify, or for HTTP POST /v1/models/{name}:predict."""
    client: str
    """Name of the key, common name of the certificate, or host of the peer."""
    deadline: float | None = None
    """In the event loop's time, seconds; None for callers that wait for ever."""
    model: str = ""
    """Name of the model, once it is known."""
    on_stage: Callable[[Stage, float, float], None] = _unobserved

    def stage(self, name: Stage, begin: float, end: float) -> None:
        """A picture of this call spent `begin` to `end`, seconds of time.monotonic(), in a stage."""
        self.on_stage(name, begin, end)


_current: ContextVar[RequestContext] = ContextVar("call")


def current_request() -> RequestContext:
    """The call that the running task answers."""
    return _current.get()


def name_model(name: str) -> None:
    """Notes which model the current call asks for, if there is a call."""
    call = _current.get(None)
    if call is not None:
        call.model = name


def set_current_request(call: RequestContext) -> None:
    """Makes `call` the current one of the running task."""
    _current.set(call)
