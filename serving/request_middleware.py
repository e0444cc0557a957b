"""What happens around every request, by whichever port it came: authentication, limits, metrics, log and trace."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from serving.arrivals import Arrivals
from serving.errors import Internal, ResourceExhausted, StatusError, Unavailable
from serving.request_context import FAILED, REQUEST_ID, Headers, RequestContext, Stage, StageTimes, current_request
from serving.security.auth import Authenticator, group_of, identity
from serving.security.limits import Capacity, ClientLimits
from serving.security.sanitize import printable
from serving.telemetry.logs import Logs
from serving.telemetry.metrics import Entrypoint, Metrics

if TYPE_CHECKING:
    from serving.telemetry.tracing import Tracer

log = logging.getLogger(__name__)

MIDDLEWARE = "middleware"
"""The key under which an HTTP request has its RequestMiddleware."""
TRANSIT_SECONDS = 0.1
"""How much earlier a caller's own clock may end a call than its deadline as seen here, after the way of the call."""
ARRIVING = 4
"""While the server is full, so many calls may bring their message, in case there is a place when it has arrived."""
CLOSED_SECONDS = 0.3
"""How long new requests are refused before the ports are closed. gRPC answers CANCELLED, which no client retries, to
requests that arrive while it closes a connection; by then clients have got UNAVAILABLE with a longer retry_after."""


@dataclass(frozen=True)
class IncomingRequest:
    """A request as it came in."""

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


class RequestMiddleware:
    """Wraps the requests of both ports."""

    def __init__(self, authenticator: Authenticator, limits: ClientLimits, arrivals: Arrivals,
                 metrics: Metrics, logs: Logs, tracer: Tracer | None, max_calls: int,
                 capacity: Capacity | None = None) -> None:
        """`max_calls`: requests being worked on at a time; grpc.aio's own limit can be exceeded (grpc#41531).

        `capacity`: for calls that are refused before their message has arrived.
        """
        self.authenticator, self.limits, self.arrivals = authenticator, limits, arrivals
        self.in_flight = self.answered = self.failed = 0
        """`failed`: refused, cancelled, or ended by an internal error."""
        self._metrics, self._logs, self._tracer = metrics, logs, tracer
        self._max_calls, self._capacity = max_calls, capacity
        self.closed = False
        """Set when the server stops: new requests are refused, and those in flight continue."""

    @contextlib.contextmanager
    def around(self, incoming: IncomingRequest, is_stream: bool = False) -> Iterator[RequestContext]:
        """Wraps the handling of a request and makes it the current one of the running task.

        Polls of a model's status are always answered, and neither limited nor counted.
        Raises StatusError if it is refused. What the block raises is counted and logged by its kind; of another error
        than a StatusError the caller learns no more than Internal.
        """
        begin = time.monotonic()
        request = RequestContext(_request_id(incoming.headers), incoming.method,
                                 identity(incoming.peer, incoming.certificate_name), incoming.deadline)
        times = StageTimes(begin)
        is_poll = group_of(incoming.method) == "status"
        request.counted = not is_poll
        self.in_flight += not is_poll
        status = grpc.StatusCode.OK

        def on_stage(stage: Stage, since: float, until: float) -> None:
            self._metrics.stage(request.model, stage, until - since)
            times.add(stage, since, until)

        request.on_stage = on_stage
        current_request.set(request)
        with contextlib.nullcontext() if is_poll else self._metrics.in_flight(incoming.entrypoint):
            try:
                request.client = self.authenticator.client(incoming.method, incoming.headers, incoming.peer,
                                                           incoming.certificate_name)
                if is_poll:
                    yield request
                else:
                    self._admit()
                    if not is_stream and group_of(incoming.method) == "predict":
                        self._check_room()
                    with self.limits.admitted(request.client, is_stream):
                        yield request
            except StatusError as error:
                status, request.http_status = error.status, error.http
                if isinstance(error, ResourceExhausted):
                    self._metrics.shed(request.model, error.reason)
                raise
            except asyncio.CancelledError:
                late = request.deadline is not None and time.monotonic() >= request.deadline - TRANSIT_SECONDS
                status = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
                raise
            except Exception:
                status, request.http_status = grpc.StatusCode.INTERNAL, 500
                log.exception("%s failed", request.method)
                raise Internal(FAILED) from None
            finally:
                self.arrivals.release(request, request.held)
                # once the answer has been sent
                asyncio.get_running_loop().call_soon(self._record, request, incoming, status, begin, time.monotonic(),
                                                     times)

    def _record(self, request: RequestContext, incoming: IncomingRequest, status: grpc.StatusCode, begin: float,
                end: float, times: StageTimes) -> None:
        """A request has ended."""
        if request.counted:
            self._count(request, incoming.entrypoint, status, end - begin, times)
        if self._tracer is not None:
            self._tracer.record(request, incoming.headers, status, begin, end, times)
        if self._logs.is_logged(request, status):
            self._logs.access(request, status, end - begin, times.until(end, status is not grpc.StatusCode.OK),
                              times.images, is_poll=not request.counted)
        request.ended = True

    def _count(self, request: RequestContext, entrypoint: Entrypoint, status: grpc.StatusCode, seconds: float,
               times: StageTimes) -> None:
        self.in_flight -= 1
        if status is grpc.StatusCode.OK:
            self.answered += 1
            self._metrics.answered(request.model, times.images)
        else:
            self.failed += 1
        self._metrics.request(request.model, request.method, entrypoint, status, seconds, times.runtime)

    def arrived(self, request: RequestContext, size: int) -> None:
        """The message or body of a call has arrived and takes `size` bytes of memory. Raises ResourceExhausted."""
        self.arrivals.hold(request, size)
        if request.counted:
            self._check_calls()

    def _admit(self) -> None:
        if self.closed:
            raise Unavailable("this server is stopping: send the call again, to another one",
                              random.uniform(1, 2) * CLOSED_SECONDS)
        self._check_calls()

    def _check_room(self) -> None:
        """ResourceExhausted if there is no place for an image and several calls are arriving that may not get one."""
        capacity = self._capacity
        if capacity is not None and capacity.taken >= capacity.number and self.arrivals.idle >= ARRIVING:
            capacity.check_room()

    def _check_calls(self) -> None:
        """ResourceExhausted if too many calls are being worked on; those that wait for their callers do not count."""
        if self.in_flight > self._max_calls and self.in_flight - self.arrivals.idle > self._max_calls:
            raise ResourceExhausted(f"this server answers {self._max_calls} calls at a time (`max_calls`): try again "
                                    "in a moment", random.uniform(0.5, 1), "calls")


def _request_id(headers: Headers) -> str:
    for name, value in headers:
        if name.lower() == REQUEST_ID and value:
            return printable(value)
    return uuid.uuid4().hex
