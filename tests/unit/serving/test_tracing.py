"""Traces reach a collector with the right times, parents and attributes, and a collector that is away hurts nobody."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from serving.request_context import Headers, RequestContext, Stage, StageTimes
from serving.telemetry.tracing import Tracer
from voc_cls.errors import UsageError

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-01")
UNSAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-00")
EXPORTER = "opentelemetry.exporter.otlp.proto.grpc.exporter"
OK = grpc.StatusCode.OK
CLASSIFY = "/voc_cls.v1.Classifier/Classify"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc]
    """What an OpenTelemetry collector does at its gRPC port."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.hold = threading.Event()
        self.hold.set()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        self.hold.wait(30)
        self.received.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Any]:
        return [span for request in self.received for resource in request.resource_spans
                for scope in resource.scope_spans for span in scope.spans]


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    service = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"http://127.0.0.1:{port}"
    service.hold.set()
    server.stop(None).wait()


def tracer_to(endpoint: str, sampling: float = 1) -> Tracer:
    return Tracer(endpoint, sampling)


def call_of(method: str = CLASSIFY) -> RequestContext:
    return RequestContext("r-1", method, "camera-7")


def record(tracer: Tracer, call: RequestContext, headers: Headers = (), status: grpc.StatusCode = OK,
           *stages: tuple[Stage, float, float], seconds: float = 0) -> None:
    """Traces a call that has begun so many seconds ago and ends now."""
    end = time.monotonic()
    times = StageTimes(end - seconds)
    for stage in stages:
        times.add(*stage)
    tracer.record(call, headers, status, end - seconds, end, times)


def attributes(span: Any) -> dict[str, Any]:
    return {entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in span.attributes}


def test_a_call_is_a_span_with_a_child_for_each_stage(collector: tuple[Collector, str]):
    service, endpoint = collector
    tracer = tracer_to(endpoint)
    call, begin, before = call_of(), time.monotonic(), time.time_ns()
    call.model = "voc"
    time.sleep(0.26)
    record(tracer, call, [], OK, ("decode", begin + 0.001, begin + 0.003), ("decode", begin + 0.001, begin + 0.004),
           *[("engine", begin + 0.01, begin + 0.25)] * 2, seconds=time.monotonic() - begin)
    after = time.time_ns()
    tracer.close()
    *children, root = sorted(service.spans, key=lambda span: span.kind == Span.SPAN_KIND_SERVER)
    assert root.name == "voc_cls.v1.Classifier/Classify"
    assert root.parent_span_id == b""
    assert before - 1e7 < root.start_time_unix_nano <= root.end_time_unix_nano < after + 1e7
    assert attributes(root) == {
        "rpc.system": "grpc", "rpc.service": "voc_cls.v1.Classifier", "rpc.method": "Classify",
        "rpc.grpc.status_code": 0, "voc_serve.status": "OK", "voc_serve.request_id": "r-1",
        "voc_serve.client": "camera-7", "voc_serve.model": "voc"}
    assert root.status.code == Status.STATUS_CODE_UNSET
    assert {(child.trace_id, child.parent_span_id) for child in children} == {(root.trace_id, root.span_id)}
    times = [(child.name, attributes(child)["voc_serve.pictures"], child.start_time_unix_nano - before,
              child.end_time_unix_nano - child.start_time_unix_nano) for child in children]
    expected = [("decode", 1, 1, 2), ("decode", 1, 1, 3), ("engine", 2, 10, 240)]
    assert len(times) == len(expected)
    for (name, pictures, start, length), (a_name, some, start_ms, length_ms) in zip(times, expected, strict=True):
        assert (name, pictures) == (a_name, some)
        assert start == pytest.approx(start_ms * 1e6, abs=5e7)
        assert length == pytest.approx(length_ms * 1e6, abs=1e4)


def test_the_server_says_who_it_is(collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch):
    service, endpoint = collector
    for name in ("voc-serve", "pets"):
        if name != "voc-serve":
            monkeypatch.setenv("OTEL_SERVICE_NAME", name)
        tracer = tracer_to(endpoint)
        record(tracer, call_of())
        tracer.close()
        assert attributes(service.received[-1].resource_spans[0].resource)["service.name"] == name


@pytest.mark.parametrize("header", [SAMPLED, ("Traceparent", SAMPLED[1])])
def test_a_callers_trace_goes_on_here(collector: tuple[Collector, str], header: tuple[str, str]):
    service, endpoint = collector
    tracer = tracer_to(endpoint, sampling=0)  # the caller has decided
    record(tracer, call_of(), [("x-request-id", "r-1"), header])
    tracer.close()
    (span,) = service.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)


def test_what_a_caller_does_not_sample_is_not_traced(collector: tuple[Collector, str]):
    service, endpoint = collector
    tracer = tracer_to(endpoint)
    record(tracer, call_of(), [UNSAMPLED], OK, ("decode", 0, 1))
    tracer.close()
    assert service.spans == []


@pytest.mark.parametrize("value", ["", "nonsense", b"\xff\xfe", f"00-{'0' * 32}-{PARENT}-01", "0" * 10_000])
def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(collector: tuple[Collector, str], value: str | bytes):
    service, endpoint = collector
    tracer = tracer_to(endpoint)
    record(tracer, call_of(), [("traceparent", value)])
    tracer.close()
    (span,) = service.spans
    assert span.parent_span_id == b""


def test_a_share_of_the_traces_is_sent(collector: tuple[Collector, str]):
    service, endpoint = collector
    tracer = tracer_to(endpoint, sampling=0.25)
    for _ in range(1000):
        record(tracer, call_of())
    tracer.close()
    assert 150 < len(service.spans) < 350


@pytest.mark.parametrize(("status", "fault"), [
    (grpc.StatusCode.INTERNAL, True), (grpc.StatusCode.DEADLINE_EXCEEDED, True),
    (grpc.StatusCode.INVALID_ARGUMENT, False), (grpc.StatusCode.CANCELLED, False)])
def test_a_fault_of_the_server_makes_the_span_an_error_one_of_the_caller_does_not(
        collector: tuple[Collector, str], status: grpc.StatusCode, fault: bool):
    service, endpoint = collector
    tracer = tracer_to(endpoint)
    record(tracer, call_of(), [], status)
    tracer.close()
    (span,) = service.spans
    assert attributes(span)["rpc.grpc.status_code"] == status.value[0]
    assert (span.status.code == Status.STATUS_CODE_ERROR) == fault
    assert ("error.type" in attributes(span)) == fault


@pytest.mark.parametrize(("http_status", "status", "error"), [
    (200, grpc.StatusCode.OK, None), (408, grpc.StatusCode.DEADLINE_EXCEEDED, None),
    (503, grpc.StatusCode.OK, "503"), (504, grpc.StatusCode.DEADLINE_EXCEEDED, "504")])
def test_over_http_statuses_from_500_on_are_errors(collector: tuple[Collector, str], http_status: int,
                                                   status: grpc.StatusCode, error: str | None):
    service, endpoint = collector
    tracer, call = tracer_to(endpoint), call_of("GET /v2/models/{name}/ready")
    call.http_status = http_status
    record(tracer, call, [], status)
    tracer.close()
    (span,) = service.spans
    assert (span.status.code == Status.STATUS_CODE_ERROR) == (error is not None)
    assert attributes(span).get("error.type") == error
    assert attributes(span)["http.response.status_code"] == http_status


def test_http_requests_are_described_as_such(collector: tuple[Collector, str]):
    service, endpoint = collector
    tracer = tracer_to(endpoint)
    call = call_of("POST /v1/models/{name}:predict")
    call.http_status = 404
    record(tracer, call, [], grpc.StatusCode.NOT_FOUND)
    tracer.close()
    (span,) = service.spans
    assert span.name == "POST /v1/models/{name}:predict"
    found = attributes(span)
    assert (found["http.request.method"], found["http.route"]) == ("POST", "/v1/models/{name}:predict")
    assert (found["voc_serve.status"], found["http.response.status_code"]) == ("NOT_FOUND", 404)
    assert not any(name.startswith("rpc.") for name in found)


def test_a_call_with_very_many_pictures_has_a_bounded_number_of_spans(collector: tuple[Collector, str]):
    service, endpoint = collector
    tracer = tracer_to(endpoint)
    record(tracer, call_of(), [], OK, *[("decode", number, number + 1) for number in range(1000)])
    tracer.close()
    assert len(service.spans) == 101
    root = next(span for span in service.spans if span.kind == Span.SPAN_KIND_SERVER)
    assert attributes(root)["voc_serve.stages_left_out"] == 900


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_collector_that_is_away_delays_no_call_and_no_stop_and_is_told_of_once(
        caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logging.getLogger(EXPORTER), "filters", [])  # which may have let their message through
    tracer = tracer_to(f"http://127.0.0.1:{unused_port()}")
    begin = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for _ in range(5000):  # more than the SDK's queue
            record(tracer, call_of())
        assert time.monotonic() - begin < 7
        begin = time.monotonic()
        tracer.close(4.5)  # long enough for its second message
        assert time.monotonic() - begin < 7
    told = [record.getMessage() for record in caplog.records if record.name == EXPORTER]
    assert len(told) == 1
    assert "UNAVAILABLE" in told[0]


def test_a_collector_that_never_answers_delays_no_stop(collector: tuple[Collector, str]):
    service, endpoint = collector
    service.hold.clear()
    tracer = tracer_to(endpoint)
    record(tracer, call_of())
    begin = time.monotonic()
    tracer.close(1)
    assert time.monotonic() - begin < 3


def test_a_collector_that_comes_later_gets_what_is_traced_from_then_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # ms until it is sent for the first time, in vain
    port = unused_port()
    tracer = tracer_to(f"http://127.0.0.1:{port}")
    record(tracer, call_of())
    time.sleep(0.5)
    service, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(service, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        record(tracer, call_of(), [SAMPLED])
        tracer.close(20)
        assert TRACE in {span.trace_id.hex() for span in service.spans}
    finally:
        server.stop(None).wait()


def test_a_server_without_traces_does_not_import_opentelemetry():
    code = "import sys, serving.server; print('opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4317", "localhost", "http://", "ftp://collector"])
def test_where_to_send_must_be_a_url(endpoint: str):
    with pytest.raises(UsageError) as error:
        tracer_to(endpoint)
    assert str(error.value).startswith(f"`trace_to` {endpoint!r} is not a URL")
