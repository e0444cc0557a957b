"""Traces: where the time of each call went, for OpenTelemetry, or for nobody."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from urllib.parse import urlsplit

import grpc

from serving.config.config import ObservabilityConfig
from serving.request_context import RequestContext, Stage
from voc_cls.errors import UsageError

Metadata = Iterable[tuple[str, str | bytes]]
"""A call's metadata or a request's headers, as pairs."""


class CallTrace(Protocol):
    """What is told of one call while it is answered."""

    def stage(self, name: Stage, begin: float, end: float) -> None:
        """A picture spent `begin` to `end`, seconds of time.monotonic(), in a stage."""

    def end(self, call: RequestContext, status: grpc.StatusCode) -> None:
        """The call has been answered."""


class Tracer(Protocol):
    """Where the traces go."""

    def begin(self, call: RequestContext, metadata: Metadata) -> CallTrace:
        """A call has come. Its parent is the one that W3C's `traceparent` in the metadata names."""

    def close(self, seconds: float = 3) -> None:
        """Sends what waits, for at most so long. Blocks."""


class _Untraced:
    def stage(self, name: Stage, begin: float, end: float) -> None:
        pass

    def end(self, call: RequestContext, status: grpc.StatusCode) -> None:
        pass


UNTRACED = _Untraced()


class NoTracer:
    """Traces nothing."""

    def begin(self, call: RequestContext, metadata: Metadata) -> CallTrace:  # noqa: ARG002
        """A call that leaves no trace."""
        return UNTRACED

    def close(self, seconds: float = 3) -> None:
        """Nothing waits."""


def open_tracer(config: ObservabilityConfig) -> Tracer:
    """The tracer that --trace-to asks for. UsageError if it is no URL, ModuleNotFoundError without its libraries."""
    if config.trace_to is None:
        return NoTracer()
    url = urlsplit(config.trace_to)
    if url.scheme not in ("http", "https") or not url.netloc:
        raise UsageError(f"--trace-to {config.trace_to!r} is no URL: give one such as http://127.0.0.1:4317, or https "
                         "for a collector with TLS")
    from serving.telemetry.opentelemetry_tracer import OpenTelemetryTracer

    return OpenTelemetryTracer(config.trace_to, config.trace_sampling)
