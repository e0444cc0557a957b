"""What Prometheus reads: TensorFlow Serving's metrics by their own names, and this server's as voc_serve_….

Names, labels, units and buckets of :tensorflow:serving:… are those of TensorFlow Serving's util.cc and
saved_model_warmup_util.cc (servables/tensorflow) and batching_session.cc, as its prometheus_exporter.cc writes them.
What a caller sends never becomes a label: names of models that the server does not have are shown as "".
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Literal, get_args

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics import disable_created_metrics
from prometheus_client.registry import Collector

from serving.errors import ShedReason
from serving.request_context import Stage
from voc_cls.version import __version__

Entrypoint = Literal["GRPC", "REST"]
DropReason = Literal["expired", "cancelled"]
LossReason = Literal["ended", "hung"]
Outcome = Literal["loaded", "failed"]

UNCOUNTED = "/grpc."
"""Prefix of methods that are not about a model; TensorFlow Serving does not count those either."""
RUNTIME = "TF1"
"""How TensorFlow Serving calls the runtime of SavedModels."""


def exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """Upper ends of TensorFlow's monitoring::Buckets::Exponential, to 6 digits as TensorFlow Serving prints them."""
    return tuple(float(f"{scale * growth**power:.6g}") for power in range(count))


LATENCY = exponential(10, 1.8, 33)
"""Microseconds, up to 20 minutes."""
QUEUING_LATENCY = exponential(100, 1.2, 52)
"""Microseconds, up to 1 second."""
BATCH_SIZES = tuple(2**power for power in range(11))
"""The sizes that batches come in, see serving.engine.batcher.batch_sizes."""
STAGE_SECONDS = (.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30)
STAGES: dict[Stage, str] = {
    "decode_queue": "How long a picture waited for a decoder.",
    "decode": "How long a picture was decoded.",
    "queue": "How long a picture waited for the engine.",
    "engine": "How long a picture was in the engine, with those of its batch.",
}
LOAD_SECONDS = (.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)


class Metrics:
    """The metrics of one server. All methods may be called from any thread."""

    def __init__(self, models: Collection[str] = ()) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # time stamps: half of the page, of no use
        self._registry = registry = CollectorRegistry()
        self._models: frozenset[str] = frozenset()
        self._labelled = cache(lambda metric, *labels: metric.labels(*labels))
        """Of metrics whose series stay: looking for one costs as much as counting."""
        ProcessCollector(registry=registry)
        Info("voc_serve_build", "What runs here.", registry=registry).info(
            {"version": __version__, "python": platform.python_version()})

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"voc_serve_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        serving = ":tensorflow:serving"
        self._requests = ExactCounter(f"{serving}:request_count", "The total number of requests.",
                                      ["model_name", "status"], registry=registry)
        self._runs = ExactCounter(f"{serving}:batching_session:wrapped_run_count",
                                  "Total count of run calls on the wrapped session.", registry=registry)
        self._request_latency = histogram(
            f"{serving}:request_latency", "Wall time (in microseconds) of answered requests.", LATENCY,
            "model_name", "API", "entrypoint")
        self._runtime_latency = histogram(
            f"{serving}:runtime_latency", "Wall time (in microseconds) of requests in the queue and the engine.",
            LATENCY, "model_name", "API", "runtime")
        self._warmup_latency = histogram(
            f"{serving}:model_warmup_latency", "Wall time (in microseconds) for warming up the model.", LATENCY,
            "model_path", "status")
        self._queuing_latency = histogram(
            f"{serving}:batching_session:queuing_latency", "Wall time (in microseconds) spent queuing.",
            QUEUING_LATENCY, "thread_pool_name")
        self._calls_in_flight = Gauge("voc_serve_calls_in_flight", "Calls being answered.", ["entrypoint"],
                                      registry=registry)
        self._answered = counter("pictures_answered", "Pictures whose scores were sent.", "model")
        self._dropped = counter("pictures_dropped", "Pictures not computed: deadline expired or call cancelled.",
                                "model", "reason")
        self._shed = counter("calls_shed", "Calls refused to protect the server.", "model", "reason")
        self._engines_lost = counter("engines_lost", "Engine processes that ended unexpectedly, or hung "
                                     "and were killed.", "model", "reason")
        self._unreadable = Gauge("voc_serve_folder_unreadable", "1 while the versions of a model cannot be listed.",
                                 ["model"], registry=registry)
        self._stages = {stage: histogram(f"voc_serve_{stage}_seconds", text, STAGE_SECONDS, "model")
                        for stage, text in STAGES.items()}
        self._batch_size = histogram("voc_serve_batch_pictures", "Pictures per batch.", BATCH_SIZES,
                                     "model", "version")
        self._batch_seconds = histogram("voc_serve_batch_seconds", "How long a batch was in the engine.",
                                        STAGE_SECONDS, "model", "version")
        self._loads = histogram("voc_serve_load_seconds", "How long a version took to load and warm up, or to fail.",
                                LOAD_SECONDS, "model", "outcome")
        for entrypoint in get_args(Entrypoint):
            self._calls_in_flight.labels(entrypoint)
        for reason in get_args(ShedReason):
            self._shed.labels("", reason)  # while the model of the call is not known
        self.serve(models)

    def serve(self, models: Collection[str]) -> None:
        """Adds models of the server.

        Their counters begin at 0: Prometheus does not see the increase of a counter that begins at 1.
        """
        self._models |= frozenset(models)
        for model in models:
            for status in (grpc.StatusCode.OK, grpc.StatusCode.INTERNAL):
                self._requests.labels(model, status.name)
            for metric in (self._answered, self._unreadable, *self._stages.values()):
                metric.labels(model)
            for metric, kinds in ((self._loads, Outcome), (self._engines_lost, LossReason),
                                  (self._dropped, DropReason), (self._shed, ShedReason)):
                for kind in get_args(kinds):
                    metric.labels(model, kind)

    def watch(self, collector: Collector) -> None:
        """Adds what it collects at every scrape, in the thread that calls page()."""
        self._registry.register(collector)

    def request(self, model: str, method: str, entrypoint: Entrypoint, status: grpc.StatusCode, seconds: float,
                runtime_seconds: float | None = None) -> None:
        """A call has ended. As in TensorFlow Serving, latencies are those of calls that were answered.

        `runtime_seconds`: the part in queue and engine; None for calls without computation.
        """
        if method.startswith(UNCOUNTED):
            return
        model = self._known(model)
        self._labelled(self._requests, model, status.name).inc()
        if status is grpc.StatusCode.OK:
            api = api_of(method)
            self._labelled(self._request_latency, model, api, entrypoint).observe(seconds * 1e6)
            if runtime_seconds is not None:
                self._labelled(self._runtime_latency, model, api, RUNTIME).observe(runtime_seconds * 1e6)

    def in_flight(self, entrypoint: Entrypoint) -> AbstractContextManager[object]:
        calls: Gauge = self._labelled(self._calls_in_flight, entrypoint)
        return calls.track_inprogress()

    def stage(self, model: str, stage: Stage, seconds: float) -> None:
        model = self._known(model)
        self._labelled(self._stages[stage], model).observe(seconds)
        if stage == "queue":
            self._labelled(self._queuing_latency, model).observe(seconds * 1e6)

    def answered(self, model: str, pictures: int) -> None:
        self._labelled(self._answered, self._known(model)).inc(pictures)

    def batch(self, model: str, version: int, pictures: int, seconds: float) -> None:
        labels = (self._known(model), str(version))
        self._batch_size.labels(*labels).observe(pictures)
        self._batch_seconds.labels(*labels).observe(seconds)
        self._runs.inc()

    def dropped(self, model: str, reason: DropReason, pictures: int) -> None:
        self._dropped.labels(self._known(model), reason).inc(pictures)

    def shed(self, model: str, reason: ShedReason) -> None:
        """A call was refused to protect the server; `model` is "" if it is not known yet."""
        self._labelled(self._shed, self._known(model), reason).inc()

    def load(self, model: str, outcome: Outcome, seconds: float) -> None:
        self._loads.labels(self._known(model), outcome).observe(seconds)

    def folder_unreadable(self, model: str, unreadable: bool) -> None:
        self._unreadable.labels(self._known(model)).set(unreadable)

    def warm_up(self, model_path: str, seconds: float) -> None:
        self._warmup_latency.labels(model_path, grpc.StatusCode.OK.name).observe(seconds * 1e6)

    def engine_lost(self, model: str, reason: LossReason) -> None:
        self._engines_lost.labels(self._known(model), reason).inc()

    def forget(self, model: str, version: int, model_path: str) -> None:
        """Removes the series of an unloaded version, of which a server that reloads for months would have many."""
        for histogram in (self._batch_size, self._batch_seconds):
            histogram.remove(model, str(version))
        self._warmup_latency.remove(model_path, grpc.StatusCode.OK.name)

    def page(self) -> tuple[bytes, str]:
        """The page, Prometheus' text, and its Content-Type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def _known(self, model: str) -> str:
        return model if model in self._models else ""


def api_of(method: str) -> str:
    """/tensorflow.serving.PredictionService/Predict and POST /v1/models/{name}:predict → Predict."""
    name = method.rpartition("/")[2].rpartition(":")[2]
    return name[:1].upper() + name[1:]


class ExactCounter(Gauge):
    """A counter shown by its own name: prometheus_client appends _total, which TensorFlow Serving's names lack."""

    _type = "unknown"  # prometheus_client's own metrics set their type so; there is no public way


def process_usage(pid: int) -> dict[str, float]:
    """prometheus_client's metrics of a process by their names; empty if there is no such process."""
    collector = ProcessCollector(pid=lambda: pid, registry=None)
    return {sample.name: sample.value for family in collector.collect() for sample in family.samples}
