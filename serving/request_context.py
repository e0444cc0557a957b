"""One request, by whichever port it came: its caller, deadline and model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

REQUEST_ID = "x-request-id"
RECEIVE_SECONDS = 60.0
"""How long the message or body of a request may take to arrive: 64 MiB over 10 Mbit/s."""
FAILED = "the server failed on this call; its log says why"
"""The message to callers for every internal error."""

Headers = Iterable[tuple[str, str | bytes]]
"""gRPC's invocation_metadata() or aiohttp's headers.items(); a name may come twice."""
Stage = Literal["decode_queue", "decode", "queue", "engine"]
"""Where an image spends its time, one after the other."""


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
    http_status: int | None = None
    """Of the answer over HTTP, once there is one."""
    counted: bool = True
    """Whether it counts for limits: not polls of a model's status."""
    held: int = 0
    """Bytes of memory that what has arrived of it takes."""
    ended: bool = False
    """Whether it has been answered: tasks that it began and that live on are not about it any more."""
    on_stage: Callable[[Stage, float, float], None] = lambda *_: None
    """Called with a stage and its begin and end, seconds of time.monotonic(), for each image of the request."""


current_request: ContextVar[RequestContext] = ContextVar("current_request")
"""The request that the running task answers."""
