"""What answers calls, whoever opens the ports: models, decoders, and what happens around every call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aiohttp import web
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.arrivals import Arrivals
from serving.config.config import ServeConfig
from serving.config.models import model_settings
from serving.decoding.pool import DecoderPool
from serving.grpc.classifier_service import ClassifierService
from serving.grpc_interceptor import GrpcInterceptor
from serving.http_middleware import http_middleware
from serving.listeners import raise_file_limit
from serving.models.registry import ModelRegistry
from serving.models.servable import Loader
from serving.models.store import version_reader
from serving.models.version_folders import check_versions
from serving.request_middleware import RequestMiddleware
from serving.rest.classifier import ClassifierApi
from serving.rest.page import add_page
from serving.rest.routes import RestApi
from serving.security.auth import Authenticator
from serving.security.limits import Capacity, ClientLimits
from serving.shutdown import StopEvent
from serving.telemetry.logs import Logs
from serving.telemetry.metrics import Metrics, process_usage

log = logging.getLogger(__name__)


class Core:
    """A server without its ports."""

    def __init__(self, config: ServeConfig, logs: Logs) -> None:
        """Finds everything that can be known to be wrong before a model is loaded."""
        raise_file_limit()
        settings = model_settings(config.models)
        for model in settings:
            folder = version_reader(model)()
            check_versions(model, folder.versions)
            if folder.others:
                log.warning("in %s ignored, as they are not version numbers: %s", folder.path, ", ".join(folder.others))
        self._config, security = config, config.security
        self._metrics = Metrics([model.name for model in settings])
        capacity = Capacity(config.batching.queue_size)
        self.decoders = DecoderPool(config, self._metrics)
        threads = ThreadPoolExecutor(config.resolved_threads, thread_name_prefix="codec")
        loader = Loader(config, capacity, self.decoders, threads, self._metrics)
        self.models = ModelRegistry(settings, loader, config.models.models_root)
        limits = ClientLimits(security.client_rate, security.client_burst, security.client_concurrency,
                              streams=security.client_streams)
        self._tracer = None
        if config.observability.trace_to is not None:
            from serving.telemetry.tracing import Tracer  # needs the extra `trace`

            self._tracer = Tracer(config.observability.trace_to, config.observability.trace_sampling)
        authenticator = Authenticator(security.keys_file, allow_reload=security.allow_reload)
        self.middleware = RequestMiddleware(authenticator, limits, Arrivals(config.receive_bytes), self._metrics, logs,
                                            self._tracer, config.ports.max_calls, capacity)
        self.interceptor = GrpcInterceptor(self.middleware, config.ports.stream_idle_seconds)
        self._metrics.watch(ServerCollector(self.models, capacity, logs))

    def http_application(self) -> web.Application:
        """The routes, for `open_http`."""
        max_bytes = self._config.max_message_bytes
        classifier = ClassifierApi(ClassifierService(self.models, StopEvent(), self._config), max_bytes)
        rest = RestApi(self.models, max_bytes, self._metrics, self._config.security.cors_origin, classifier)
        application = rest.application(http_middleware(self.middleware, self._config.ports.http_timeout))
        if self._config.ports.page:
            add_page(application)
        return application

    async def close(self) -> None:
        """Ends the engines and the decoders, and sends the last traces."""
        await self.models.close()
        await self.decoders.close()
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close)


@dataclass(frozen=True, eq=False)
class ServerCollector(Collector):
    """Gauges of a server, and memory and CPU time of its engine processes, which ProcessCollector does not cover."""

    models: ModelRegistry
    capacity: Capacity
    logs: Logs

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("voc_serve_ready", "1 while health says SERVING.", float(self.models.ready))
        yield GaugeMetricFamily("voc_serve_pictures_in_server", "Pictures being decoded, waiting, in the engines.",
                                self.capacity.taken)
        yield GaugeMetricFamily("voc_serve_queue_capacity", "Pictures that may be in the server at a time "
                                "(queue_size).", self.capacity.number)
        yield CounterMetricFamily("voc_serve_log_lines_lost", "Log lines that could not be written, as the disk was "
                                  "full or nobody read them.", self.logs.lost)
        names = ("model", "version")
        states = GaugeMetricFamily("voc_serve_version_state", "1 for the state that a version is in.",
                                   labels=(*names, "state"))
        failed = GaugeMetricFamily("voc_serve_version_failed", "1 for versions that could not be loaded.", labels=names)
        engine = InfoMetricFamily("voc_serve_engine", "What computes a version, and how.", labels=names)
        memory = GaugeMetricFamily("voc_serve_engine_resident_memory_bytes", "Resident memory of the process that "
                                   "computes a version.", labels=names)
        cpu = CounterMetricFamily("voc_serve_engine_cpu_seconds", "User and system time of the process that computes "
                                  "a version.", labels=names)
        for name in self.models.names:
            for number, version in self.models.versions(name).items():
                labels = (name, str(number))
                states.add_metric((*labels, version.state.name), 1)
                failed.add_metric(labels, float(version.failed))
                if version.servable and (usage := process_usage(version.servable.engine.pid)):
                    engine.add_metric(labels, {"description": version.servable.engine.description})
                    memory.add_metric(labels, usage["process_resident_memory_bytes"])
                    cpu.add_metric(labels, usage["process_cpu_seconds_total"])
        yield from (states, failed, engine, memory, cpu)
