"""What Prometheus reads of the server: exact names, labels that callers cannot multiply, numbers of the moment."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from serving.core import ServerCollector
from serving.models.model import Version, VersionState
from serving.telemetry.metrics import Metrics, api_of, process_usage

PREDICT = "/tensorflow.serving.PredictionService/Predict"
OK = grpc.StatusCode.OK


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The sample of that name with exactly these labels on the page, None if there is none."""
    found = [sample.value for family in parse_text(metrics.page()[0].decode()) for sample in family.samples
             if sample.name == name and sample.labels == labels]
    assert len(found) <= 1
    return found[0] if found else None


def collector(*found: Version) -> Any:
    """What is collected of a server that has these versions of the model voc."""
    models: Any = SimpleNamespace(ready=True, names=("voc",),
                                  versions=lambda _: {version.number: version for version in found})
    capacity: Any = SimpleNamespace(taken=3, number=128)
    logs: Any = SimpleNamespace(lost=2)
    return ServerCollector(models, capacity, logs)


def test_tensorflow_servings_metrics_have_their_exact_names():
    metrics = Metrics(["voc"])
    metrics.request("voc", PREDICT, "GRPC", OK, 0.25, runtime_seconds=0.2)
    metrics.stage("voc", "queue", 0.001)
    metrics.batch("voc", 7, 4, 0.1)
    metrics.warm_up("/models/voc/7", 3)
    prefix = ":tensorflow:serving:"
    call = {"model_name": "voc", "API": "Predict"}
    assert value(metrics, f"{prefix}request_count", model_name="voc", status="OK") == 1
    assert value(metrics, f"{prefix}request_latency_sum", **call, entrypoint="GRPC") == 250_000
    assert value(metrics, f"{prefix}runtime_latency_sum", **call, runtime="TF1") == 200_000
    assert value(metrics, f"{prefix}model_warmup_latency_sum", model_path="/models/voc/7", status="OK") == 3e6
    assert value(metrics, f"{prefix}batching_session:wrapped_run_count") == 1
    queuing = f"{prefix}batching_session:queuing_latency"
    assert value(metrics, f"{queuing}_sum", thread_pool_name="voc") == 1000
    buckets = [line for line in metrics.page()[0].decode().splitlines() if line.startswith(f"{queuing}_bucket")]
    assert len(buckets) == 53  # 100 × 1.2^i for i below 52, and +Inf


def test_latencies_are_those_of_answered_calls_and_every_status_is_counted():
    metrics = Metrics(["voc"])
    metrics.request("voc", "POST /v1/models/{name}:predict", "REST", OK, 0.1)
    metrics.request("voc", "POST /v1/models/{name}:predict", "REST", grpc.StatusCode.RESOURCE_EXHAUSTED, 9)
    latency = {"model_name": "voc", "API": "Predict", "entrypoint": "REST"}
    assert value(metrics, ":tensorflow:serving:request_latency_count", **latency) == 1
    for status in ("OK", "RESOURCE_EXHAUSTED"):
        assert value(metrics, ":tensorflow:serving:request_count", model_name="voc", status=status) == 1


def test_names_that_callers_make_up_are_no_labels():
    metrics = Metrics(["voc"])
    before = len(metrics.page()[0].splitlines())
    for number in range(500):
        metrics.request(f"made-up-{number}", PREDICT, "GRPC", grpc.StatusCode.NOT_FOUND, 0.1)
        metrics.shed(f"made-up-{number}", "rate")
        metrics.stage(f"made-up-{number}", "decode", 0.1)
    assert len(metrics.page()[0].splitlines()) < before + 40
    assert value(metrics, ":tensorflow:serving:request_count", model_name="", status="NOT_FOUND") == 500


@pytest.mark.parametrize(("method", "api"), [
    (PREDICT, "Predict"), ("POST /v1/models/{name}/versions/{version}:classify", "Classify"),
    ("/voc_cls.v1.Classifier/ClassifyStream", "ClassifyStream")])
def test_a_method_has_the_same_name_by_whichever_port_it_came(method: str, api: str):
    assert api_of(method) == api


def test_calls_that_fail_are_no_new_methods_and_calls_about_no_model_are_not_counted():
    metrics = Metrics(["voc"])
    for number in range(100):
        metrics.request("", f"POST /made-up-{number}", "REST", grpc.StatusCode.NOT_FOUND, 0.1)
    metrics.request("", "/grpc.reflection.v1.ServerReflection/Info", "GRPC", OK, 0.1)
    metrics.request("voc", PREDICT, "GRPC", OK, 0.1)
    page = metrics.page()[0].decode()
    assert 'API="Predict"' in page
    assert value(metrics, ":tensorflow:serving:request_count", model_name="", status="OK") is None


def test_what_may_happen_to_a_model_begins_at_zero_so_that_its_first_time_is_an_increase():
    metrics = Metrics()
    assert value(metrics, "voc_serve_load_seconds_count", model="voc", outcome="failed") is None
    metrics.serve(["voc"])
    assert value(metrics, "voc_serve_load_seconds_count", model="voc", outcome="failed") == 0
    assert value(metrics, "voc_serve_calls_shed_total", model="voc", reason="queue_full") == 0
    assert value(metrics, ":tensorflow:serving:request_count", model_name="voc", status="INTERNAL") == 0


def test_a_version_tells_its_batches_and_drops():
    metrics = Metrics(["voc"])
    metrics.batch("voc", 7, 16, 0.5)
    metrics.batch("voc", 7, 1, 0.05)
    metrics.dropped("voc", "expired", 3)
    version = {"model": "voc", "version": "7"}
    assert value(metrics, "voc_serve_batch_pictures_sum", **version) == 17
    assert value(metrics, "voc_serve_batch_pictures_bucket", **version, le="1.0") == 1
    assert value(metrics, "voc_serve_batch_pictures_bucket", **version, le="16.0") == 2
    assert value(metrics, "voc_serve_batch_seconds_sum", **version) == 0.55
    assert value(metrics, "voc_serve_pictures_dropped_total", model="voc", reason="expired") == 3


def test_a_version_that_is_gone_leaves_no_series_behind():
    metrics = Metrics(["voc"])
    before = metrics.page()[0].decode().count("\n")
    for version in range(20):
        metrics.batch("voc", version, 4, 0.1)
        metrics.warm_up(f"/models/voc/{version}", 3)
        metrics.forget("voc", version, f"/models/voc/{version}")
    assert metrics.page()[0].decode().count("\n") == before
    metrics.forget("voc", 99, "/never/loaded")


def test_calls_are_in_flight_until_their_block_ends_however_it_ends():
    metrics = Metrics()
    assert value(metrics, "voc_serve_calls_in_flight", entrypoint="REST") == 0
    with metrics.in_flight("GRPC"), metrics.in_flight("GRPC"):
        assert value(metrics, "voc_serve_calls_in_flight", entrypoint="GRPC") == 2
    with pytest.raises(RuntimeError), metrics.in_flight("GRPC"):
        raise RuntimeError
    assert value(metrics, "voc_serve_calls_in_flight", entrypoint="GRPC") == 0


def test_the_rest_of_what_is_counted():
    metrics = Metrics(["voc"])
    metrics.answered("voc", 5)
    metrics.load("voc", "failed", 12)
    metrics.engine_lost("voc", "hung")
    for stage in ("decode", "queue", "engine"):
        metrics.stage("voc", stage, 0.5)
        assert value(metrics, f"voc_serve_{stage}_seconds_sum", model="voc") == 0.5
    assert value(metrics, "voc_serve_pictures_answered_total", model="voc") == 5
    assert value(metrics, "voc_serve_load_seconds_sum", model="voc", outcome="failed") == 12
    assert value(metrics, "voc_serve_engines_lost_total", model="voc", reason="hung") == 1
    assert (value(metrics, "process_resident_memory_bytes") or 0) > 1e6


def test_the_state_of_the_server_is_that_of_the_scrape():
    metrics, version = Metrics(["voc"]), {"model": "voc", "version": "7"}
    seven = Version(7, Path(), VersionState.LOADING)
    eight = Version(8, Path(), VersionState.END, error="damaged")
    watched = collector(seven, eight)
    watched.models.ready = False
    metrics.watch(watched)
    assert value(metrics, "voc_serve_ready") == 0
    assert value(metrics, "voc_serve_version_state", **version, state="LOADING") == 1
    watched.models.ready, seven.state = True, VersionState.AVAILABLE
    assert value(metrics, "voc_serve_ready") == 1
    assert value(metrics, "voc_serve_version_state", **version, state="LOADING") is None
    assert value(metrics, "voc_serve_version_state", **version, state="AVAILABLE") == 1
    assert value(metrics, "voc_serve_version_failed", **version) == 0
    assert value(metrics, "voc_serve_version_failed", model="voc", version="8") == 1
    assert value(metrics, "voc_serve_pictures_in_server") == 3
    assert value(metrics, "voc_serve_queue_capacity") == 128
    assert value(metrics, "voc_serve_log_lines_lost_total") == 2


def test_memory_and_time_of_an_engines_process_are_read_until_it_ends():
    code = "data = bytearray(64 * 2**20)\nwhile True: sum(range(1000))"
    engine = subprocess.Popen([sys.executable, "-c", code])
    metrics = Metrics(["voc"])
    servable: Any = SimpleNamespace(engine=SimpleNamespace(pid=engine.pid, description="OpenVINO"))
    metrics.watch(collector(Version(7, Path(), VersionState.AVAILABLE, servable=servable)))
    version = {"model": "voc", "version": "7"}
    try:
        end = time.monotonic() + 30
        while (value(metrics, "voc_serve_engine_cpu_seconds_total", **version) or 0) < 0.2:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert 64 * 2**20 < (value(metrics, "voc_serve_engine_resident_memory_bytes", **version) or 0) < 256 * 2**20
    finally:
        engine.kill()
        engine.wait()
    assert not process_usage(engine.pid)
    assert value(metrics, "voc_serve_engine_resident_memory_bytes", **version) is None
    assert value(metrics, "voc_serve_version_state", **version, state="AVAILABLE") == 1
