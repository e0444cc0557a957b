"""One server from start to end: ports, models, services, and an orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from serving.announcement import ready_line, summary
from serving.config.config import ServeConfig
from serving.config.models import ModelSettings, model_settings
from serving.errors import ServeError
from serving.grpc_interceptor import GrpcInterceptor
from serving.http_middleware import HttpMiddleware
from serving.listeners import HttpPort, allow_connections, open_grpc, open_http
from serving.models.capacity import Capacity
from serving.models.loader import Loader
from serving.models.model_folder import read_model_folder
from serving.models.registry import ModelRegistry
from serving.request_middleware import CLOSED_SECONDS, RequestMiddleware
from serving.security.auth import Authenticator
from serving.security.limits import ClientLimits
from serving.security.tls import Certificates
from serving.shutdown import StopSignals, drain, first, pause
from serving.telemetry.logs import Logs
from serving.telemetry.metrics import Metrics
from serving.telemetry.metrics_collectors import ServerSnapshot, VersionSnapshot
from serving.telemetry.tracing import Tracer, open_tracer
from voc_cls.console import import_tensorflow
from voc_cls.files import write_text

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from serving.grpc.health import HealthService
    from serving.grpc.streams import StopEvent


@dataclass(frozen=True)
class Parts:
    """What a server is made of."""

    config: ServeConfig
    logs: Logs
    metrics: Metrics
    places: Capacity
    decoders: ThreadPoolExecutor
    models: ModelRegistry
    reception: RequestMiddleware
    grpc_server: grpc.aio.Server
    grpc_address: str
    certificates: Certificates | None
    tensorflow: asyncio.Future[Any]
    """Done when TensorFlow has been imported."""


async def serve(config: ServeConfig) -> None:
    """Serves until a stop is asked for. Raises ServeError if it cannot start or had to cut calls off."""
    started = time.monotonic()
    stop = StopSignals()
    logs = Logs(config.observability)
    tracer = open_tracer(config.observability)
    try:
        parts = _assemble(config, logs, tracer)
        loading = asyncio.ensure_future(parts.models.start())
        try:
            await _serve(parts, loading, stop, started)
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await parts.grpc_server.stop(None)
            await parts.models.close()
    finally:
        await asyncio.to_thread(tracer.close)
        logs.close()


def _assemble(config: ServeConfig, logs: Logs, tracer: Tracer) -> Parts:
    """Everything that can be known to be wrong is, before TensorFlow is imported."""
    allow_connections()
    if config.ports.port_file is not None:
        with contextlib.suppress(OSError):
            config.ports.port_file.unlink()  # of a server that was killed: it says that this one is ready
    settings = model_settings(config.models)
    for one in settings:
        _look_at(one)
    metrics, places = Metrics([one.name for one in settings]), Capacity(config.batching.queue_size)
    decoders = ThreadPoolExecutor(config.resolved_threads, thread_name_prefix="decoder")
    tensorflow: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    models = ModelRegistry(settings, Loader(config, places, decoders, metrics, tensorflow), config.models.models_root)
    reception = RequestMiddleware(Authenticator(config.security), ClientLimits(config.security), metrics, logs, tracer,
                          config.ports.max_calls)
    certificates = Certificates(config.security) if config.security.tls_cert is not None else None
    server, address = open_grpc(config, GrpcInterceptor(reception),
                                certificates.grpc_credentials() if certificates else None)
    return Parts(config, logs, metrics, places, decoders, models, reception, server, address, certificates, tensorflow)


async def _serve(parts: Parts, loading: asyncio.Future[None], stop: StopSignals, started: float) -> None:
    config, models = parts.config, parts.models
    parts.tensorflow.set_result(await asyncio.to_thread(import_tensorflow))  # takes seconds; engines begin to load
    from serving.grpc.services import add_services
    from serving.grpc.streams import StopEvent
    from serving.rest.routes import RestApi

    rest = RestApi(models, config, parts.decoders, parts.metrics)
    parts.metrics.watch(lambda: _now(parts, rest.open))
    http = await open_http(config, rest.application(HttpMiddleware(parts.reception).middleware),
                           parts.certificates.http_context() if parts.certificates else None)
    try:
        stopping = StopEvent()
        health = await add_services(parts.grpc_server, models, config, stopping)
        await parts.grpc_server.start()
        await first(loading, stop.made)
        if loading.done():
            loading.result()
            rest.open = True
            await _answer(parts, health, http, stop, started)
        rest.open = False
        await _stop(parts, health, stopping, http, stop)
    finally:
        await http.close()


async def _answer(parts: Parts, health: HealthService, http: HttpPort, stop: StopSignals, started: float) -> None:
    """From the moment of readiness until a stop is asked for."""
    config = parts.config
    watching = asyncio.create_task(parts.models.watch(config.models.poll_seconds))
    try:
        await health.open()
        parts.logs.say(ready_line(config, parts.models, parts.grpc_address, http.address, time.monotonic() - started))
        with _port_file(config.ports.port_file, parts.grpc_address):
            await stop.made.wait()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _stop(parts: Parts, health: HealthService, stopping: StopEvent, http: HttpPort, stop: StopSignals) -> None:
    """NOT_SERVING, the lame-duck pause, then no new calls, and those that run are finished."""
    life_cycle = parts.config.life_cycle
    await health.enter_graceful_shutdown()
    await pause(stop, life_cycle.lame_duck_seconds)
    stopping.begin()
    parts.reception.close()
    await pause(stop, CLOSED_SECONDS)
    grace = life_cycle.grace_seconds  # it ends in drain, where the calls are counted
    await drain((lambda: parts.grpc_server.stop(grace + 60), http.runner.cleanup), parts.reception.counts, stop, grace)
    for line in summary(parts.reception.counts, parts.models):
        parts.logs.say(line)


def _now(parts: Parts, serving: bool) -> ServerSnapshot:
    """What the gauges show."""
    models, places = parts.models, parts.places
    versions = {(name, number): VersionSnapshot(version.state.name, version.failed,
                                           version.servable.engine.pid if version.servable else None)
                for name in models.names for number, version in models.versions(name).items()}
    return ServerSnapshot(serving and models.ready, places.taken, places.number, parts.logs.lost, versions)


def _look_at(settings: ModelSettings) -> None:
    folder = read_model_folder(settings.folder)
    if folder.others:
        log.warning("in %s ignored, as they are no version numbers: %s", folder.path, ", ".join(folder.others))


@contextlib.contextmanager
def _port_file(path: Path | None, address: str) -> Iterator[None]:
    """Keeps the file while the server is ready; it appears whole."""
    if path is None:
        yield
        return
    try:
        write_text(path, f"{address.rpartition(':')[2]}\n")
    except OSError as error:
        raise ServeError(f"--port-file {path} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
