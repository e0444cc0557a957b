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
from serving.calls import Calls
from serving.config.config import ServeConfig
from serving.config.models import ModelSettings, model_settings
from serving.errors import ServeError
from serving.http_calls import HttpCalls
from serving.lifecycle import StopRequest, drain, first, pause
from serving.listening import HttpPort, allow_connections, open_grpc, open_http
from serving.models.loading import Loader
from serving.models.model_folder import read_model_folder
from serving.models.models import Models
from serving.models.places import Places
from serving.reception import CLOSED_SECONDS, Reception
from serving.security.access import Access
from serving.security.limits import Limits
from serving.security.tls import Certificates
from serving.telemetry.logs import Logs
from serving.telemetry.metrics import Metrics
from serving.telemetry.metrics_collectors import ServerNow, VersionNow
from serving.telemetry.tracing import Tracer, open_tracer
from voc_cls.console import import_tensorflow
from voc_cls.files import write_text

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from serving.services.health import Health
    from serving.services.streams import Stopping


@dataclass(frozen=True)
class Parts:
    """What a server is made of."""

    config: ServeConfig
    logs: Logs
    metrics: Metrics
    places: Places
    decoders: ThreadPoolExecutor
    models: Models
    reception: Reception
    grpc_server: grpc.aio.Server
    grpc_address: str
    certificates: Certificates | None
    tensorflow: asyncio.Future[Any]
    """Done when TensorFlow has been imported."""


async def serve(config: ServeConfig) -> None:
    """Serves until a stop is asked for. Raises ServeError if it cannot start or had to cut calls off."""
    started = time.monotonic()
    stop = StopRequest()
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
    metrics, places = Metrics([one.name for one in settings]), Places(config.batching.queue_size)
    decoders = ThreadPoolExecutor(config.resolved_threads, thread_name_prefix="decoder")
    tensorflow: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    models = Models(settings, Loader(config, places, decoders, metrics, tensorflow), config.models.models_root)
    reception = Reception(Access(config.security), Limits(config.security), metrics, logs, tracer,
                          config.ports.max_calls)
    certificates = Certificates(config.security) if config.security.tls_cert is not None else None
    server, address = open_grpc(config, Calls(reception), certificates.grpc_credentials() if certificates else None)
    return Parts(config, logs, metrics, places, decoders, models, reception, server, address, certificates, tensorflow)


async def _serve(parts: Parts, loading: asyncio.Future[None], stop: StopRequest, started: float) -> None:
    config, models = parts.config, parts.models
    parts.tensorflow.set_result(await asyncio.to_thread(import_tensorflow))  # takes seconds; engines begin to load
    from serving.rest.routes import Rest
    from serving.services.all_services import add_services
    from serving.services.streams import Stopping

    rest = Rest(models, config, parts.decoders, parts.metrics)
    parts.metrics.watch(lambda: _now(parts, rest.open))
    http = await open_http(config, rest.application(HttpCalls(parts.reception).middleware),
                           parts.certificates.http_context() if parts.certificates else None)
    try:
        stopping = Stopping()
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


async def _answer(parts: Parts, health: Health, http: HttpPort, stop: StopRequest, started: float) -> None:
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


async def _stop(parts: Parts, health: Health, stopping: Stopping, http: HttpPort, stop: StopRequest) -> None:
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


def _now(parts: Parts, serving: bool) -> ServerNow:
    """What the gauges show."""
    models, places = parts.models, parts.places
    versions = {(name, number): VersionNow(version.state.name, version.failed,
                                           version.servable.engine.pid if version.servable else None)
                for name in models.names for number, version in models.versions(name).items()}
    return ServerNow(serving and models.ready, places.taken, places.number, parts.logs.lost, versions)


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
