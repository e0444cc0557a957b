"""When a server does not answer: the sentence for a person, and whether to ask again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from voc_cls.errors import ClientError
from voc_cls.v1 import classifier_pb2

SERVICE = classifier_pb2.DESCRIPTOR.services_by_name["Classifier"].full_name
WAIT_INTERVAL = 0.5
"""Seconds between two questions to a server that is not ready."""
TOO_LARGE = re.compile(r"larger than max \((\d+) vs\. (\d+)\)")
"""gRPC's words for a message above a limit: its bytes, and the limit."""
OF_THE_CLIENT = re.compile(r"CLIENT|[Ss]ent message")
"""In such words: the limit that was exceeded is our own."""
HANDSHAKE = re.compile(r"handshake|certificate|SSL_ERROR|TSI_", re.IGNORECASE)


class CallError(ClientError):
    """A call that the server refused or did not answer."""

    def __init__(self, message: str, code: grpc.StatusCode, request_id: str) -> None:
        super().__init__(message)
        self.code = code
        """The gRPC status."""
        self.request_id = request_id
        """The x-request-id that the call had; the server's logs have it."""


@dataclass(frozen=True)
class Teller:
    """Makes sentences of gRPC statuses; knows whom was asked, and how."""

    address: str
    timeout: float
    max_bytes: int
    encrypted: bool

    def error(self, code: grpc.StatusCode, details: str, request_id: str) -> CallError:
        """The exception for a call that ended with this status."""
        return CallError(self._told(code, details, request_id), code, request_id)

    def late(self, request_id: str) -> CallError:
        """The exception for an answer that did not come in time."""
        return self.error(grpc.StatusCode.DEADLINE_EXCEEDED, "", request_id)

    def _told(self, code: grpc.StatusCode, details: str, request_id: str) -> str:
        server = f"the server at {self.address}"
        if code is grpc.StatusCode.UNAVAILABLE and "not ready" not in details and "stopping" not in details:
            return self._unreachable(details)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return (f"{server} did not answer within {self.timeout:g} s: it is overloaded or not there; "
                    "try later, with fewer pictures or a longer timeout")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and TOO_LARGE.search(details):
            return self._too_large(server, details)
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return f"{server} has no {SERVICE} of this age ({details}): it is not voc-serve, or an older one"
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return f"{server} wants to know who asks ({details}): give a token or an API key of its --keys-file"
        if code is grpc.StatusCode.INTERNAL:
            return f"{server} failed ({details}): its log has this call under the request id {request_id}"
        return f"{server} refused the call with {code.name}: {details}"

    def _unreachable(self, details: str) -> str:
        if self.encrypted and HANDSHAKE.search(details):
            return (f"no trusted connection to {self.address} ({details}): the server does not speak TLS, or one side "
                    "does not accept the other's certificate; check the CA file and the client's certificate")
        also = ("show a client certificate if the server wants one" if self.encrypted  # in TLS 1.3 it just hangs up
                else "ask for TLS if the server wants it")
        return (f"no server answers at {self.address} ({details}): start one with voc-serve, or correct the address, "
                f"or {also}")

    def _too_large(self, server: str, details: str) -> str:
        if OF_THE_CLIENT.search(details):
            return (f"the message is larger than this client's {self.max_bytes / 2**20:g} MiB ({details}): send fewer "
                    "or smaller pictures, or raise max_message_mb")
        return (f"{server} takes no messages of this size ({details}; this client sends up to "
                f"{self.max_bytes / 2**20:g} MiB): send fewer or smaller pictures, or raise its --max-message-mb")


class Patience:
    """Keeps asking a server that is not ready for `wait` seconds, counted from the last sign of life."""

    def __init__(self, wait: float, on_wait: Callable[[], object]) -> None:
        self._wait = wait
        self._on_wait = on_wait
        self._told = False
        self._until = time.monotonic() + wait

    def renew(self) -> None:
        """There was a sign of life."""
        self._told = False
        self._until = time.monotonic() + self._wait

    def pause(self, code: grpc.StatusCode) -> float | None:
        """Seconds to wait before asking again; None to give up. Calls `on_wait` once when the waiting begins."""
        if code is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > self._until:
            return None
        if not self._told:
            self._told = True
            self._on_wait()
        return WAIT_INTERVAL
