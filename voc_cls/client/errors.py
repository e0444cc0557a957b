"""Failed calls: what their status means, as one sentence for a person, and when they are repeated: by gRPC itself,
while a server becomes ready, and within a stream."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from voc_cls.errors import ClientError
from voc_cls.v1 import classifier_pb2

SERVICE = classifier_pb2.DESCRIPTOR.services_by_name["Classifier"].full_name
MESSAGE_TOO_LARGE = re.compile(r"larger than max \((\d+) vs\. (\d+)\)")
"""gRPC's words for a message above a limit: its bytes, and the limit."""
CLIENT_LIMIT = re.compile(r"CLIENT|[Ss]ent message")
"""In such words: the limit is this client's own, not the server's."""
HANDSHAKE = re.compile(r"handshake|certificate|SSL_ERROR|TSI_", re.IGNORECASE)
URL = re.compile(r"(https?|grpcs?|tcp)://(\[[^]]*\]|[^/?#:\s]+)?(:\d+)?.*", re.IGNORECASE)
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""That gRPC reads, in this order, and no_grpc_proxy or no_proxy for hosts that are reached without one."""
LOOPBACK = re.compile(r"(localhost|127\.[\d.]+|\[::1\]):\d+|unix(-abstract)?:.*")
ATTEMPTS = 5
"""How often a call, or a picture of a stream, is sent at most; gRPC allows no more."""
BACKOFF = 0.2
"""Seconds before the second attempt, then twice as long each time, where the server does not say how long."""
RETRIED_STATUSES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
RETRIED_METHODS = ("Classify", "GetModel")
"""What gRPC may repeat by itself. Streams are reopened by their StreamState, which knows what is answered: gRPC's
retries can leave one that met a stopping server without an end, even when it is cancelled (grpcio 1.85)."""
SERVICE_CONFIG = json.dumps({
    "loadBalancingConfig": [{"round_robin": {}}],  # calls are spread over the addresses of a name
    "methodConfig": [{"name": [{"service": SERVICE, "method": method} for method in RETRIED_METHODS], "retryPolicy": {
        "maxAttempts": ATTEMPTS, "initialBackoff": f"{BACKOFF}s", "maxBackoff": "2s", "backoffMultiplier": 2,
        "retryableStatusCodes": [status.name for status in RETRIED_STATUSES]}}]})
"""gRPC's own retry policy (gRFC A6) for a server that is starting, stopping or full: with jitter, or after the delay in
its grpc-retry-pushback-ms."""
POLL_INTERVAL = 0.5
"""Seconds between two calls to a server that is not ready."""


class CallError(ClientError):
    """A call that the server refused or did not answer."""

    def __init__(self, message: str, code: grpc.StatusCode, request_id: str) -> None:
        super().__init__(message)
        self.code = code
        """The gRPC status."""
        self.request_id = request_id
        """The call's x-request-id, which is also in the server's log."""


@dataclass
class Retries:
    """What the status of one call means, and whether it is repeated: while the server is not ready."""

    address: str
    timeout: float
    """Seconds."""
    max_bytes: int
    """Largest message that this client sends."""
    encrypted: bool
    request_id: str
    wait: float
    """Seconds, counted from the server's last answer."""
    on_wait: Callable[[], object]
    """Called when the waiting begins."""

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The server has answered: the time counts from now."""
        self._waiting = False
        self._deadline = time.monotonic() + self.wait

    def pause(self, code: grpc.StatusCode, details: str, answered: bool = False) -> float:
        """Seconds before the call that ended with this status is repeated; CallError if it should not be.

        answered: whether the status is a server's, which sends metadata with it, not of gRPC for want of one.
        """
        if code is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > self._deadline:
            raise self.error(code, details, answered) from None
        if not self._waiting:
            self._waiting = True
            self.on_wait()
        return POLL_INTERVAL

    def image_pause(self, code: grpc.StatusCode, error: classifier_pb2.Error, refusals: int) -> float:
        """Seconds before a picture of a stream, refused `refusals` times, is sent again; CallError if it is not."""
        if code not in RETRIED_STATUSES or refusals >= ATTEMPTS:
            return self.pause(code, error.message, answered=True)
        if error.HasField("retry_after_ms"):
            return float(error.retry_after_ms) / 1000
        return BACKOFF * 2.0 ** (refusals - 1)

    def error(self, code: grpc.StatusCode, details: str, answered: bool = False) -> CallError:
        """The exception for a call that ended with this status."""
        return CallError(self._message(code, details, answered), code, self.request_id)

    def _message(self, code: grpc.StatusCode, details: str, answered: bool) -> str:
        server = f"the server at {self.address}"
        if code is grpc.StatusCode.UNAVAILABLE and not answered:
            return self._unreachable(details)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return (f"{server} did not answer within {self.timeout:g} s: it is overloaded or unreachable; "
                    "retry later, with fewer pictures or a longer `timeout`")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and MESSAGE_TOO_LARGE.search(details):
            return self._message_too_large(server, details)
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return f"{server} does not have this method of {SERVICE} ({details}): it is not voc-serve, or an older one"
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return f"{server} requires authentication ({details}): give a `token` or an `api_key` from its keys file"
        if code is grpc.StatusCode.INTERNAL:
            return f"{server} failed ({details}): its log has this call under the request id {self.request_id}"
        return f"{server} refused the call with {code.name}: {details}"

    def _unreachable(self, details: str) -> str:
        if self.encrypted and HANDSHAKE.search(details):
            return (f"no trusted connection to {self.address} ({details}): the server does not use TLS, or one side "
                    "rejects the other's certificate; check the CA file and the client certificate")
        if variable := proxy_variable(self.address):
            details += f"; through the proxy of {variable}, unless no_proxy names this host"
        hint = ("give `client_cert` and `client_key` if the server requires a client certificate"
                if self.encrypted  # in TLS 1.3 the server closes the connection without a reason
                else "use `tls` if the server requires it")
        return (f"no server answers at {self.address} ({details}): start one with voc-serve, correct the address, "
                f"or {hint}")

    def _message_too_large(self, server: str, details: str) -> str:
        if CLIENT_LIMIT.search(details):
            return (f"the message is larger than this client's {self.max_bytes / 2**20:g} MiB ({details}): send fewer "
                    "or smaller pictures, or raise `max_message_mb`")
        return (f"{server} rejects messages of this size ({details}; this client sends up to "
                f"{self.max_bytes / 2**20:g} MiB): send fewer or smaller pictures, or raise the server's "
                "`max_message_mb`")


def url_problem(address: str, parameter: str = "address") -> str | None:
    """What to write instead of a URL; None for HOST:PORT and other targets of gRPC."""
    match = URL.fullmatch(address)
    if match is None:
        return None
    scheme, host, port = match[1].lower(), match[2] or "HOST", match[3] or ":8500"
    web = scheme.startswith("http")  # its port may be that of REST
    tls = " with `tls`" if scheme in ("https", "grpcs") else ""
    return (f"`{parameter}` {address} is a URL, where HOST:PORT of voc-serve's gRPC port is expected: write "
            f"{host}{port}{tls}" + (", if that is not the port of its REST API" if web and match[3] else ""))


def proxy_variable(address: str) -> str | None:
    """The environment variable by which gRPC connects through a proxy; None for this machine's own addresses."""
    if LOOPBACK.fullmatch(address):
        return None
    return next((name for name in PROXY_VARIABLES if os.environ.get(name)), None)
