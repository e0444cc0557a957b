"""What happens around every call, by whichever port it came: who is it, may it come in, how did it end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import grpc

from serving.errors import ResourceExhausted, StatusError, Unavailable
from serving.request_context import RequestContext, Stage, set_current_request
from serving.security.auth import Authenticator, identity
from serving.security.limits import ClientLimits
from serving.security.sanitize import printable
from serving.telemetry.logs import Logs
from serving.telemetry.metrics import Entrypoint, Metrics
from serving.telemetry.tracing import Tracer

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
RECEIVE_SECONDS = 60.0
"""How long the message or body of a call may take to arrive: 64 MiB over 10 Mbit/s."""
CLOSED_SECONDS = 0.3
"""How long new calls are refused before the ports are closed. gRPC answers CANCELLED, which nobody sends again, to what
arrives while it closes a connection; by then callers have been told UNAVAILABLE, and to come back later than that."""
FAILED = "the server failed on this call; its log says why"
"""All that a caller is told of an error of the server's own."""
Headers = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class IncomingRequest:
    """A call as it came in."""

    method: str
    """/voc_cls.v1.Classifier/Classify, or for HTTP POST /v1/models/{name}:predict."""
    entrypoint: Entrypoint
    headers: Headers
    peer: str
    """gRPC's context.peer() or aiohttp's request.remote."""
    certificate_name: str | None = None
    """Common name of the client's certificate."""
    deadline: float | None = None
    """In the event loop's time, seconds."""


@dataclass
class RequestCounts:
    """Of one server, since it started."""

    in_flight: int = 0
    answered: int = 0
    failed: int = 0
    """Refused, cancelled, or broken by an error of the server's own."""


class RequestMiddleware:
    """Stands around the calls of both ports."""

    def __init__(self, access: Authenticator, limits: ClientLimits, metrics: Metrics, logs: Logs, tracer: Tracer,
                 max_calls: int) -> None:
        self.counts = RequestCounts()
        self._closed = False
        self._max_calls = max_calls  # grpc.aio's own limit can be passed (grpc#41531)
        self.access, self.limits = access, limits
        self._metrics, self._logs, self._tracer = metrics, logs, tracer

    def close(self) -> None:
        """From now on nobody is let in; calls that run go on."""
        self._closed = True

    @contextlib.contextmanager
    def around(self, arrival: IncomingRequest) -> Iterator[RequestContext]:
        """Around the answering of a call; makes it the current one of the running task.

        Raises StatusError if it may not come in. What the block raises passes through, counted and logged by its kind.
        """
        begin = time.monotonic()
        call = RequestContext(_request_id(arrival.headers), arrival.method, identity(arrival.peer,
                              arrival.certificate_name),
                    arrival.deadline)
        times = _Times()
        self.counts.in_flight += 1
        status = grpc.StatusCode.OK
        trace = self._tracer.begin(call, arrival.headers)

        def on_stage(name: Stage, since: float, until: float) -> None:
            self._metrics.stage(call.model, name, until - since)
            times.stage(name, since, until)
            trace.stage(name, since, until)

        call.on_stage = on_stage
        set_current_request(call)
        with self._metrics.in_flight(arrival.entrypoint):
            try:
                call.client = self.access.client(arrival.method, arrival.headers, arrival.peer,
                                                 arrival.certificate_name)
                if self._closed:
                    raise Unavailable("this server is stopping: send the call again, to another one",
                                   random.uniform(1, 2) * CLOSED_SECONDS)
                if self.counts.in_flight > self._max_calls:
                    raise ResourceExhausted(f"this server answers {self._max_calls} calls at a time (--max-calls): "
                                            f"try again "
                                     "in a moment", random.uniform(0.5, 1), "calls")
                with self.limits.admitted(call.client):
                    yield call
            except StatusError as refusal:
                status = refusal.status
                if isinstance(refusal, ResourceExhausted):
                    self._metrics.shed(call.model, refusal.reason)
                raise
            except asyncio.CancelledError:
                late = call.deadline is not None and time.monotonic() >= call.deadline
                status = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
                raise
            except Exception:
                status = grpc.StatusCode.INTERNAL
                log.exception("%s failed", call.method)
                raise
            finally:
                seconds = time.monotonic() - begin
                self.counts.in_flight -= 1
                self.counts.answered += status is grpc.StatusCode.OK
                self.counts.failed += status is not grpc.StatusCode.OK
                if status is grpc.StatusCode.OK:
                    self._metrics.answered(call.model, times.computed)
                self._metrics.request(call.model, arrival.method, arrival.entrypoint, status, seconds, times.runtime)
                trace.end(call, status)
                self._logs.access(call, status, seconds, times.spent)


class _Times:
    """Where the time of one call went."""

    def __init__(self) -> None:
        self.spent: dict[Stage, float] = {}
        """Seconds of all its pictures in each stage."""
        self.computed = 0
        """Pictures that went through the engine."""
        self._begin = self._end = 0.0

    def stage(self, name: Stage, begin: float, end: float) -> None:
        """A picture of the call went through a stage."""
        self.spent[name] = self.spent.get(name, 0) + end - begin
        self.computed += name == "engine"
        if name != "decode":
            self._begin = min(self._begin or begin, begin)
            self._end = max(self._end, end)

    @property
    def runtime(self) -> float | None:
        """Seconds from the first picture's way into the queue to the last one's out of the engine, if any."""
        return self._end - self._begin if self._end else None


def _request_id(headers: Headers) -> str:
    for name, value in headers:
        if name.lower() == REQUEST_ID and value:
            return printable(value)
    return uuid.uuid4().hex
