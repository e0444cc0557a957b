"""One request, by whichever port it came: its caller, deadline and model, and where its time went."""

from __future__ import annotations

from collections import Counter, defaultdict
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
PRECEDENCE: tuple[Stage, ...] = ("engine", "decode", "queue", "decode_queue")
"""Of several stages that the images of a request are in at a moment, the one that the moment counts for: work before
waiting."""
SHOWN = ("receive", "decode_queue", "decode", "queue", "engine", "answer", "unfinished")
MOST_SPANS = 4096
"""Spans kept before they are summed up: a stream may have images for hours."""
MOST_TRACED = 100
"""Spans kept for the trace of a request."""


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


class StageTimes:
    """Each moment of a request counts for one stage.

    `receive` is the time in which none of its images is here: until the first begins, and while a stream waits for its
    caller; `answer` is what follows the last, and `unfinished` that of a request that failed, maybe within a stage.
    """

    def __init__(self, begin: float) -> None:
        """`begin`: of the request, seconds of time.monotonic()."""
        self.images = 0
        """Images that went through the engine."""
        self.runtime: float | None = None
        """Seconds from the first image's entry into the queue to the last one's exit from the engine, if any."""
        self.first: Counter[tuple[float, float, Stage]] = Counter()
        """The first spans, each with its number of images: those of a batch share one."""
        self.left_out = 0
        """Spans that are not in `first`, one for each image."""
        self._queued_at = 0.0
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._summed_up_to = begin
        self._spans: set[tuple[float, float, Stage]] = set()  # those of a batch are the same for its images

    def add(self, stage: Stage, begin: float, end: float) -> None:
        """An image was in a stage."""
        self.images += stage == "engine"
        if stage in ("queue", "engine"):
            self._queued_at = min(self._queued_at or begin, begin)
            self.runtime = max(self.runtime or 0.0, end - self._queued_at)
        span = (begin, end, stage)
        self._spans.add(span)
        if span in self.first or len(self.first) < MOST_TRACED:
            self.first[span] += 1
        else:
            self.left_out += 1
        if len(self._spans) > MOST_SPANS:
            self._sum_up()

    def until(self, end: float, failed: bool = False) -> dict[str, float]:
        """Seconds in each stage of a request that has ended; empty for one without images."""
        self._sum_up()
        if self._spent:
            self._spent["unfinished" if failed else "answer"] += max(0.0, end - self._summed_up_to)
        return {stage: self._spent[stage] for stage in SHOWN if self._spent[stage]}

    def _sum_up(self) -> None:
        changes = sorted([(begin, 1, stage) for begin, _, stage in self._spans]
                         + [(end, -1, stage) for _, end, stage in self._spans])
        running: Counter[Stage] = Counter()
        for moment, change, stage in changes:
            counts_for = next((one for one in PRECEDENCE if running[one]), "receive")
            self._spent[counts_for] += max(0.0, moment - self._summed_up_to)
            self._summed_up_to = max(self._summed_up_to, moment)
            running[stage] += change
        self._spans.clear()
