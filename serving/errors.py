"""Why a call is answered with an error, and why a server does not start.

ServeError             the server cannot start: one sentence on stderr, exit code 1
└── ModelError         a model cannot be served as configured
StatusError            a call is answered with a gRPC status and one sentence
├── InvalidArgument    the call itself is wrong: sending it again does not help
├── NotFound           no such model, version or signature; the message lists those that exist
├── FailedPrecondition not as the server is now: sending it again does not help before its operator acts
├── ResourceExhausted  the server holds as many images as it may, or the client makes more calls than it may
├── Unavailable        loading or stopping: try again later, or another server
├── DeadlineExceeded   the caller's deadline passed while the image waited
├── Unimplemented      a method that this kind of model cannot answer
├── Internal           the server's own fault; its log says more
├── Unauthenticated    no key, or an unknown one
└── PermissionDenied   a known caller that may not call this method
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import ClassVar, Literal

import grpc

from voc_cls.errors import VocError

ShedReason = Literal["queue_full", "calls", "rate", "concurrency", "streams", "memory"]
"""Why a call was refused to protect the server, in the metrics."""
HTTP = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403,
        "NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429, "INTERNAL": 500, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503,
        "DEADLINE_EXCEEDED": 504}
"""gRPC's status → the one over HTTP, as google.rpc.Code maps them."""


class ServeError(VocError):
    """The server cannot start with what it was given."""


class ModelError(ServeError):
    """A model cannot be served as configured."""

    def __init__(self, message: str, reason: str | None = None) -> None:
        """`reason`: the message for callers, without the server's paths; default: the message has none."""
        super().__init__(message)
        self.reason = message if reason is None else reason


class StatusError(Exception):
    """A call that fails; `status` and the message are what its caller gets."""

    status: ClassVar[grpc.StatusCode]
    headers: Mapping[str, str] = {}
    """What RFC 9110 demands beside this status."""

    def __init__(self, message: str, retry_after: float | None = None, http: int | None = None) -> None:
        """`retry_after`: seconds after which trying again may help; `http`: a more precise status over HTTP."""
        super().__init__(message)
        self.retry_after = retry_after
        self.http = http or HTTP[self.status.name]

    @property
    def retry_after_ms(self) -> int | None:
        """`retry_after` in whole milliseconds, at least one."""
        return None if self.retry_after is None else max(1, round(1000 * self.retry_after))


class InvalidArgument(StatusError):
    status = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(StatusError):
    status = grpc.StatusCode.NOT_FOUND


class FailedPrecondition(StatusError):
    status = grpc.StatusCode.FAILED_PRECONDITION


class ResourceExhausted(StatusError):
    status = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, retry_after: float | None = None, reason: ShedReason = "queue_full") -> None:
        super().__init__(message, retry_after)
        self.reason = reason


class Unavailable(StatusError):
    status = grpc.StatusCode.UNAVAILABLE

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        """`retry_after`: by default about a second, not the same for all callers: engines take some to start."""
        super().__init__(message, random.uniform(0.5, 1) if retry_after is None else retry_after)


class DeadlineExceeded(StatusError):
    status = grpc.StatusCode.DEADLINE_EXCEEDED


class Unimplemented(StatusError):
    status = grpc.StatusCode.UNIMPLEMENTED


class Internal(StatusError):
    status = grpc.StatusCode.INTERNAL


class Unauthenticated(StatusError):
    status = grpc.StatusCode.UNAUTHENTICATED
    headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


class PermissionDenied(StatusError):
    status = grpc.StatusCode.PERMISSION_DENIED
