"""One request, by whichever port it came: who sends it, how long they wait, and where its time goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

REQUEST_ID = "x-request-id"
RECEIVE_SECONDS = 60.0
"""How long the message or body of a request may take to arrive: 64 MiB over 10 Mbit/s."""
FAILED = "the server failed on this call; its log says why"
"""All that a caller is told of an internal error."""

Headers = Iterable[tuple[str, str | bytes]]
"""gRPC's invocation_metadata() or aiohttp's headers.items(); a name may come twice."""
Stage = Literal["decode", "queue", "engine"]
"""Where an image spends its time, one after the other."""


def _unobserved(stage: Stage, begin: float, end: float) -> None:
    """For requests that are not measured."""


@dataclass
class RequestContext:
    """What travels with a request through the server."""

    id: str
    """The caller's x-request-id, or a new one; it is in the log and in the response's metadata."""
    method: str
    """/voc_cls.v1.Classifier/Classify, or for HTTP POST /v1/models/{name}:predict."""
    client: str
    """Name of the key, common name of the certificate, or host of the peer."""
    deadline: float | None = None
    """In the event loop's time, seconds; None for callers without a deadline."""
    model: str = ""
    """Name of the model, once it is known."""
    on_stage: Callable[[Stage, float, float], None] = _unobserved
    """Called with a stage and its begin and end, seconds of time.monotonic(), for each image of the request."""


_current: ContextVar[RequestContext] = ContextVar("request")


def current_request() -> RequestContext:
    """The request that the running task answers; LookupError if there is none."""
    return _current.get()


def set_current_request(request: RequestContext) -> None:
    """Makes `request` the current one of the running task."""
    _current.set(request)


def set_model(name: str) -> None:
    """Notes which model the current request is for, if there is a request."""
    request = _current.get(None)
    if request is not None:
        request.model = name
