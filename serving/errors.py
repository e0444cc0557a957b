"""Why a call is refused, and why a server does not start.

ServeError        the server cannot start: one sentence on stderr, exit code 1
Refusal           a call is answered with a gRPC status and one sentence
├── InvalidCall   INVALID_ARGUMENT    sending it again would not help
├── NotFound      NOT_FOUND           no such model, version or signature; the message names those there are
├── Overloaded    RESOURCE_EXHAUSTED  as many pictures as the server may hold
├── NotReady      UNAVAILABLE         loading or stopping; another moment or another server can answer
├── Expired       DEADLINE_EXCEEDED   the caller's deadline passed while the picture waited
└── Unsupported   UNIMPLEMENTED       a method that this kind of model has no answer to
"""

from __future__ import annotations

from typing import ClassVar

import grpc

from voc_cls.errors import VocError


class ServeError(VocError):
    """The server cannot start with what it was given."""


class Refusal(Exception):
    """A call that is not answered; `status` and the message are what its caller gets."""

    status: ClassVar[grpc.StatusCode]


class InvalidCall(Refusal):
    """The call is wrong in itself."""

    status = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(Refusal):
    """The call names something that this server does not have."""

    status = grpc.StatusCode.NOT_FOUND


class Overloaded(Refusal):
    """The server has as many pictures as it may hold."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED


class NotReady(Refusal):
    """The model is not loaded yet, or no longer."""

    status = grpc.StatusCode.UNAVAILABLE


class Expired(Refusal):
    """The caller has stopped waiting."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED


class Unsupported(Refusal):
    """A method of the API that this server does not have."""

    status = grpc.StatusCode.UNIMPLEMENTED
