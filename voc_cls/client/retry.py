"""When a failed call is repeated: by gRPC itself, while a server becomes ready, and within a stream."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import grpc

from voc_cls.client.errors import SERVICE, ErrorTranslator
from voc_cls.v1 import classifier_pb2

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


class Retries:
    """Repeats one call while the server is not ready, for `wait` seconds counted from the server's last answer."""

    def __init__(self, errors: ErrorTranslator, wait: float, on_wait: Callable[[], object]) -> None:
        self.errors, self._wait, self._on_wait = errors, wait, on_wait
        self.restart()

    def restart(self) -> None:
        """The server has answered: the time counts from now."""
        self._waiting = False
        self._deadline = time.monotonic() + self._wait

    def pause(self, code: grpc.StatusCode, details: str) -> float:
        """Seconds before the call that ended with this status is repeated; CallError if it should not be."""
        if code is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > self._deadline:
            raise self.errors.error(code, details) from None
        if not self._waiting:
            self._waiting = True
            self._on_wait()
        return POLL_INTERVAL

    def image_pause(self, code: grpc.StatusCode, error: classifier_pb2.Error, refusals: int) -> float:
        """Seconds before a picture of a stream, refused `refusals` times, is sent again; CallError if it is not."""
        if code not in RETRIED_STATUSES or refusals >= ATTEMPTS:
            return self.pause(code, error.message)
        if error.HasField("retry_after_ms"):
            return float(error.retry_after_ms) / 1000
        return BACKOFF * 2.0 ** (refusals - 1)
