"""Why a call is answered with an error, and why a server does not start.

ServeError             the server cannot start: one sentence on stderr, exit code 1
StatusError            a call is answered with a gRPC status and one sentence
├── InvalidArgument    the call itself is wrong: sending it again does not help
├── NotFound           no such model, version or signature; the message lists those that exist
├── ResourceExhausted  the server holds as many images as it may, or the client makes more calls than it may
├── Unavailable        loading or stopping: try again later, or another server
├── DeadlineExceeded   the caller's deadline passed while the image waited
├── Unimplemented      a method that this kind of model cannot answer
├── Unauthenticated    no key, or an unknown one
└── PermissionDenied   a known caller that may not call this method
"""

from __future__ import annotations

from typing import ClassVar, Literal

import grpc

from voc_cls.errors import VocError

ShedReason = Literal["queue_full", "calls", "rate", "concurrency"]
"""What a call was refused for, in the metrics."""


class ServeError(VocError):
    """The server cannot start with what it was given."""


class StatusError(Exception):
    """A call that is not answered; `status` and the message are what its caller gets."""

    status: ClassVar[grpc.StatusCode]
    http: ClassVar[int]
    """The status of the same refusal over HTTP, as google.rpc.Code maps them."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which trying again may help; None where nothing is known."""

    @property
    def retry_after_ms(self) -> int | None:
        """The same in whole milliseconds, at least one."""
        return None if self.retry_after is None else max(1, round(1000 * self.retry_after))


class InvalidArgument(StatusError):
    """The call is wrong in itself."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    http = 400


class NotFound(StatusError):
    """The call names something that this server does not have."""

    status = grpc.StatusCode.NOT_FOUND
    http = 404


class ResourceExhausted(StatusError):
    """The server has as many pictures as it may hold, or the client as many calls as it may make."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    http = 429

    def __init__(self, message: str, retry_after: float | None = None, reason: ShedReason = "queue_full") -> None:
        super().__init__(message, retry_after)
        self.reason = reason


class Unavailable(StatusError):
    """The model is not loaded yet, or no longer."""

    status = grpc.StatusCode.UNAVAILABLE
    http = 503


class DeadlineExceeded(StatusError):
    """The caller has stopped waiting."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
    http = 504


class Unimplemented(StatusError):
    """A method of the API that this server does not have."""

    status = grpc.StatusCode.UNIMPLEMENTED
    http = 501


class Unauthenticated(StatusError):
    """The caller did not say who it is, or not convincingly."""

    status = grpc.StatusCode.UNAUTHENTICATED
    http = 401


class PermissionDenied(StatusError):
    """The caller is known and may not do this."""

    status = grpc.StatusCode.PERMISSION_DENIED
    http = 403
