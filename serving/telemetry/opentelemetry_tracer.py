"""Spans of calls, sent over OTLP/gRPC by threads of the OpenTelemetry SDK. A collector that is away disturbs nobody."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping

import grpc
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace import Tracer as SpanMaker
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.request_context import RequestContext, Stage
from serving.telemetry.tracing import Metadata
from voc_cls.version import __version__

SERVICE = "voc-serve"
EXPORT_SECONDS = 5
"""How long one sending may take, with its retries."""
SILENT_SECONDS = 60
"""How often the log tells that the collector cannot be reached."""
MOST_CHILDREN = 100
"""Spans below that of a call; what a call with more pictures did beyond is only counted."""
NOISY_LOGGERS = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk._shared_internal")
W3C_HEADERS = ("traceparent", "tracestate")
SERVER_FAULTS = frozenset({grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNIMPLEMENTED,
                           grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS})
"""Statuses that make a server's span an error, by OpenTelemetry's semantic conventions for gRPC."""


class OpenTelemetryTracer:
    """See serving.telemetry.tracing.Tracer."""

    def __init__(self, endpoint: str, share: float) -> None:
        """`share`, 0 to 1, is of the traces that begin here; a caller's own decision is followed."""
        for name in NOISY_LOGGERS:
            logging.getLogger(name).addFilter(_Seldom())
        resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", SERVICE),
                                    "service.version": __version__})
        self._provider = TracerProvider(ParentBased(TraceIdRatioBased(share)), resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS)))
        self._maker = self._provider.get_tracer(SERVICE, __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, call: RequestContext, metadata: Metadata) -> OpenTelemetryCall:
        """See serving.telemetry.tracing.Tracer."""
        carrier = {key: value for key, value in ((pair[0].lower(), pair[1]) for pair in metadata)
                   if key in W3C_HEADERS and isinstance(value, str)}
        parent = self._propagator.extract(carrier, Context())
        return OpenTelemetryCall(self._maker, call, parent)

    def close(self, seconds: float = 3) -> None:
        """See serving.telemetry.tracing.Tracer."""
        # in a thread, as the SDK's own shutdown waits for half a minute if the collector does not answer
        closing = threading.Thread(target=self._provider.shutdown, daemon=True, name="close-tracer")
        closing.start()
        closing.join(seconds)


class OpenTelemetryCall:
    """See serving.telemetry.tracing.CallTrace. Belongs to one call; its spans are made when that ends."""

    def __init__(self, maker: SpanMaker, call: RequestContext, parent: Context) -> None:
        self._maker = maker
        self._wall = time.time_ns() - time.monotonic_ns()
        self._stages: Counter[tuple[Stage, float, float]] = Counter()
        self._left_out = 0
        self._span: Span = maker.start_span(call.method.lstrip("/"), parent, SpanKind.SERVER, _method(call.method))

    def stage(self, name: Stage, begin: float, end: float) -> None:
        """See serving.telemetry.tracing.CallTrace. Pictures of one batch share a span."""
        if not self._span.is_recording():
            return
        if (name, begin, end) in self._stages or len(self._stages) < MOST_CHILDREN:
            self._stages[name, begin, end] += 1
        else:
            self._left_out += 1

    def end(self, call: RequestContext, status: grpc.StatusCode) -> None:
        """See serving.telemetry.tracing.CallTrace."""
        if not self._span.is_recording():
            return
        parent = set_span_in_context(self._span)
        for (name, begin, end), pictures in sorted(self._stages.items(), key=lambda entry: entry[0][1]):
            child = self._maker.start_span(name, parent, attributes={"voc_serve.pictures": pictures},
                                           start_time=self._nanoseconds(begin))
            child.end(self._nanoseconds(end))
        self._span.set_attributes({"voc_serve.request_id": call.id, "voc_serve.client": call.client,
                                   "voc_serve.model": call.model, "voc_serve.status": status.name})
        if call.method.startswith("/"):
            self._span.set_attribute("rpc.grpc.status_code", status.value[0])
        if self._left_out:
            self._span.set_attribute("voc_serve.stages_left_out", self._left_out)
        if status in SERVER_FAULTS:
            self._span.set_attribute("error.type", status.name)
            self._span.set_status(Status(StatusCode.ERROR, status.name))
        self._span.end()

    def _nanoseconds(self, monotonic: float) -> int:
        """Time of day of a time.monotonic()."""
        return self._wall + int(monotonic * 1e9)


def _method(method: str) -> Mapping[str, str]:
    """Attributes for /package.Service/Method, or POST /path, by OpenTelemetry's semantic conventions."""
    if method.startswith("/"):
        service, _, name = method[1:].rpartition("/")
        return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
    verb, _, route = method.partition(" ")
    return {"http.request.method": verb, "http.route": route}


class _Seldom(logging.Filter):
    """Lets one message a minute through: a collector that is away is worth a line, not one every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + SILENT_SECONDS
        return True
