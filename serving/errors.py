"""Why a call is refused, and why a server does not start.

ServeError        the server cannot start: one sentence on stderr, exit code 1
Refusal           a call is answered with a gRPC status and one sentence
├── InvalidCall   INVALID_ARGUMENT    sending it again would not help
├── NotFound      NOT_FOUND           no such model, version or signature; the message names those there are
├── Overloaded    RESOURCE_EXHAUSTED  as many pictures as the server may hold, or more calls than this client may make
├── NotReady      UNAVAILABLE         loading or stopping; another moment or another server can answer
├── Expired       DEADLINE_EXCEEDED   the caller's deadline passed while the picture waited
├── Unsupported   UNIMPLEMENTED       a method that this kind of model has no answer to
├── Unauthenticated  UNAUTHENTICATED  no key, or one that is not known
└── Forbidden     PERMISSION_DENIED   a known caller that may not do this
"""

from __future__ import annotations

from typing import ClassVar, Literal

import grpc

from voc_cls.errors import VocError

Shed = Literal["queue_full", "calls", "rate", "concurrency"]
"""What a call was refused for, in the metrics."""


class ServeError(VocError):
    """The server cannot start with what it was given."""


class Refusal(Exception):
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


class InvalidCall(Refusal):
    """The call is wrong in itself."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    http = 400


class NotFound(Refusal):
    """The call names something that this server does not have."""

    status = grpc.StatusCode.NOT_FOUND
    http = 404


class Overloaded(Refusal):
    """The server has as many pictures as it may hold, or the client as many calls as it may make."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    http = 429

    def __init__(self, message: str, retry_after: float | None = None, reason: Shed = "queue_full") -> None:
        super().__init__(message, retry_after)
        self.reason = reason


class NotReady(Refusal):
    """The model is not loaded yet, or no longer."""

    status = grpc.StatusCode.UNAVAILABLE
    http = 503


class Expired(Refusal):
    """The caller has stopped waiting."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
    http = 504


class Unsupported(Refusal):
    """A method of the API that this server does not have."""

    status = grpc.StatusCode.UNIMPLEMENTED
    http = 501


class Unauthenticated(Refusal):
    """The caller did not say who it is, or not convincingly."""

    status = grpc.StatusCode.UNAUTHENTICATED
    http = 401


class Forbidden(Refusal):
    """The caller is known and may not do this."""

    status = grpc.StatusCode.PERMISSION_DENIED
    http = 403
