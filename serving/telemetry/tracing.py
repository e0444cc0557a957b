"""Traces: spans of requests, sent over OTLP/gRPC by threads of the OpenTelemetry SDK.

Needs the extra `trace`. A collector that cannot be reached does not slow requests down.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from urllib.parse import urlsplit

import grpc
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.request_context import Headers, RequestContext, StageTimes
from voc_cls.errors import UsageError
from voc_cls.version import __version__

SERVICE = "voc-serve"
EXPORT_SECONDS = 5
"""How long one export may take, with its retries."""
LOG_SECONDS = 60
"""Least time between two log lines that say that the collector cannot be reached."""
NOISY_LOGGERS = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk._shared_internal")
SERVER_FAULTS = frozenset({grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNIMPLEMENTED,
                           grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS})
"""Statuses that make a server's span an error, by OpenTelemetry's semantic conventions for gRPC; for HTTP: 500 on."""


class Tracer:
    """Makes the spans of requests and exports them."""

    def __init__(self, endpoint: str, sampling: float) -> None:
        """Sends to `endpoint`; UsageError unless that is a URL.

        `sampling`, 0 to 1: share of the traces that begin here; the decision of a caller is followed.
        """
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.netloc:
            raise UsageError(f"`trace_to` {endpoint!r} is not a URL: give one such as http://127.0.0.1:4317, or https "
                             "for a collector with TLS")
        for name in NOISY_LOGGERS:
            logging.getLogger(name).addFilter(_OncePerMinute())
        resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", SERVICE),
                                    "service.version": __version__})
        self._provider = TracerProvider(ParentBased(TraceIdRatioBased(sampling)), resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS)))
        self._spans = self._provider.get_tracer(SERVICE, __version__)
        self._propagator = TraceContextTextMapPropagator()

    def record(self, request: RequestContext, headers: Headers, status: grpc.StatusCode, begin: float, end: float,
               times: StageTimes) -> None:
        """Makes the spans of a request that has ended, its stages' among them.

        The parent is the span that W3C's `traceparent` header names; names of attributes are those of OpenTelemetry's
        semantic conventions. `begin`, `end`: seconds of time.monotonic().
        """
        wall = time.time_ns() - time.monotonic_ns()

        def nanoseconds(monotonic: float) -> int:
            return wall + int(monotonic * 1e9)

        attributes: dict[str, str | int] = {
            "voc_serve.request_id": request.id, "voc_serve.client": request.client, "voc_serve.model": request.model,
            "voc_serve.status": status.name}
        error = status.name if status in SERVER_FAULTS else ""
        if request.method.startswith("/"):
            service, _, name = request.method[1:].rpartition("/")
            attributes |= {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name,
                           "rpc.grpc.status_code": status.value[0]}
        else:
            verb, _, route = request.method.partition(" ")
            attributes |= {"http.request.method": verb, "http.route": route}
            if request.http_status is not None:
                attributes["http.response.status_code"] = request.http_status
                error = str(request.http_status) if request.http_status >= 500 else ""
        if times.left_out:
            attributes["voc_serve.stages_left_out"] = times.left_out
        if error:
            attributes["error.type"] = error
        carrier = {name.lower(): value for name, value in headers if isinstance(value, str)}
        span = self._spans.start_span(request.method.lstrip("/"), self._propagator.extract(carrier, Context()),
                                      SpanKind.SERVER, attributes, start_time=nanoseconds(begin))
        if not span.is_recording():
            return
        parent = set_span_in_context(span)
        for (since, until, stage), images in sorted(times.first.items()):
            child = self._spans.start_span(stage, parent, attributes={"voc_serve.pictures": images},
                                           start_time=nanoseconds(since))
            child.end(nanoseconds(until))
        if error:
            span.set_status(Status(StatusCode.ERROR, status.name))
        span.end(nanoseconds(end))

    def close(self, seconds: float = 3) -> None:
        """Sends what waits, for at most `seconds`. Blocks."""
        # in a thread, as the SDK's own shutdown waits for half a minute if the collector does not answer
        closing = threading.Thread(target=self._provider.shutdown, daemon=True, name="close-tracer")
        closing.start()
        closing.join(seconds)


class _OncePerMinute(logging.Filter):
    """Lets one message a minute through: an unreachable collector is worth a line, not one every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + LOG_SECONDS
        return True
