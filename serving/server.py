"""One server from start to end: ports, models, services, what it prints, and an orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from serving.config.config import SecurityConfig, ServeConfig
from serving.config.models import model_settings
from serving.errors import ServeError
from serving.grpc_interceptor import GrpcInterceptor
from serving.http_middleware import HttpMiddleware
from serving.listeners import HttpListener, open_grpc, open_http, raise_file_limit
from serving.models.registry import ModelRegistry
from serving.models.servable import Loader
from serving.models.version_folders import read_model_folder
from serving.request_middleware import CLOSED_SECONDS, RequestCounts, RequestMiddleware
from serving.security.auth import Authenticator
from serving.security.limits import Capacity, ClientLimits
from serving.security.tls import Certificates
from serving.shutdown import StopEvent, StopSignals, drain, wait_first
from serving.telemetry.logs import Logs
from serving.telemetry.metrics import Metrics, ServerSnapshot, VersionSnapshot
from voc_cls.console import import_tensorflow
from voc_cls.files import write_text

if TYPE_CHECKING:
    from serving.grpc.health import HealthService
    from serving.telemetry.tracing import Tracer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerParts:
    """What a server is made of."""

    config: ServeConfig
    logs: Logs
    metrics: Metrics
    capacity: Capacity
    decoders: ThreadPoolExecutor
    models: ModelRegistry
    middleware: RequestMiddleware
    grpc_server: grpc.aio.Server
    grpc_address: str
    certificates: Certificates | None
    tensorflow: asyncio.Future[Any]
    """Done when TensorFlow has been imported."""


async def serve(config: ServeConfig) -> None:
    """Serves until a stop signal. Raises ServeError if it cannot start or had to cut calls off."""
    started = time.monotonic()
    signals = StopSignals()
    logs = Logs(config.observability)
    tracer = None
    if config.observability.trace_to is not None:
        from serving.telemetry.tracing import Tracer  # needs the extra `trace`

        tracer = Tracer(config.observability.trace_to, config.observability.trace_sampling)
    try:
        parts = _assemble(config, logs, tracer)
        loading = asyncio.ensure_future(parts.models.start())
        try:
            await _serve(parts, loading, signals, started)
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await parts.grpc_server.stop(None)
            await parts.models.close()
    finally:
        if tracer is not None:
            await asyncio.to_thread(tracer.close)
        logs.close()


def _assemble(config: ServeConfig, logs: Logs, tracer: Tracer | None) -> ServerParts:
    """Finds everything that can be known to be wrong before TensorFlow is imported."""
    raise_file_limit()
    if config.ports.port_file is not None:
        with contextlib.suppress(OSError):
            config.ports.port_file.unlink()  # left by a server that was killed; it would say that this one is ready
    settings = model_settings(config.models)
    for model in settings:
        folder = read_model_folder(model.folder)
        if folder.others:
            log.warning("in %s ignored, as they are not version numbers: %s", folder.path, ", ".join(folder.others))
    security = config.security
    metrics, capacity = Metrics([model.name for model in settings]), Capacity(config.batching.queue_size)
    decoders = ThreadPoolExecutor(config.resolved_threads, thread_name_prefix="decoder")
    tensorflow: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    models = ModelRegistry(settings, Loader(config, capacity, decoders, metrics, tensorflow), config.models.models_root)
    limits = ClientLimits(security.client_rate, security.client_burst, security.client_concurrency)
    middleware = RequestMiddleware(Authenticator(security.keys_file), limits, metrics, logs, tracer,
                                   config.ports.max_calls)
    certificates = (Certificates(security.tls_cert, security.tls_key, security.client_ca)
                    if security.tls_cert is not None and security.tls_key is not None else None)
    server, address = open_grpc(config, GrpcInterceptor(middleware),
                                certificates.grpc_credentials() if certificates else None)
    return ServerParts(config, logs, metrics, capacity, decoders, models, middleware, server, address, certificates,
                       tensorflow)


async def _serve(parts: ServerParts, loading: asyncio.Future[None], signals: StopSignals, started: float) -> None:
    config, models = parts.config, parts.models
    parts.tensorflow.set_result(await asyncio.to_thread(import_tensorflow))  # takes seconds; engines begin to load
    from serving.grpc.services import add_services  # imports TensorFlow, and so do the routes
    from serving.rest.routes import RestApi

    rest = RestApi(models, config, parts.decoders, parts.metrics)
    parts.metrics.watch(lambda: _snapshot(parts, rest.open))
    http = await open_http(config, rest.application(HttpMiddleware(parts.middleware).handle),
                           parts.certificates.http_context() if parts.certificates else None)
    try:
        stop_event = StopEvent()
        health = add_services(parts.grpc_server, models, config, stop_event)
        await parts.grpc_server.start()
        await wait_first(loading, signals.stop)
        if loading.done():
            loading.result()
            rest.open = True
            await _answer(parts, health, http, signals, started)
        rest.open = False
        await _stop(parts, health, stop_event, http, signals)
    finally:
        await http.close()


async def _answer(parts: ServerParts, health: HealthService, http: HttpListener, signals: StopSignals,
                  started: float) -> None:
    """From readiness until a stop signal."""
    config = parts.config
    watching = asyncio.create_task(parts.models.watch(config.models.poll_seconds))
    try:
        health.open()
        parts.logs.say(ready_line(config, parts.models, parts.grpc_address, http.address, time.monotonic() - started))
        with _port_file(config.ports.port_file, parts.grpc_address):
            await signals.stop.wait()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _stop(parts: ServerParts, health: HealthService, stop_event: StopEvent, http: HttpListener,
                signals: StopSignals) -> None:
    """NOT_SERVING, the lame-duck pause, then no new requests, and those in flight are finished."""
    life_cycle, counts = parts.config.life_cycle, parts.middleware.counts
    health.enter_graceful_shutdown()
    await signals.pause(life_cycle.lame_duck_seconds)
    stop_event.set()
    parts.middleware.close()
    await signals.pause(CLOSED_SECONDS)
    grace = life_cycle.grace_seconds  # it ends in drain, where the requests are counted

    def in_flight() -> int:
        return counts.in_flight

    await drain((lambda: parts.grpc_server.stop(grace + 60), lambda: http.drain(in_flight)), in_flight, signals, grace)
    for line in stop_lines(counts, parts.models):
        parts.logs.say(line)


def _snapshot(parts: ServerParts, serving: bool) -> ServerSnapshot:
    """What the gauges show."""
    models, capacity = parts.models, parts.capacity
    versions = {(name, number): VersionSnapshot(version.state.name, version.failed,
                                                version.servable.engine.pid if version.servable else None)
                for name in models.names for number, version in models.versions(name).items()}
    return ServerSnapshot(serving and models.ready, capacity.taken, capacity.number, parts.logs.lost, versions)


@contextlib.contextmanager
def _port_file(path: Path | None, address: str) -> Iterator[None]:
    """Keeps the file while the server is ready; it is written atomically."""
    if path is None:
        yield
        return
    try:
        write_text(path, f"{address.rpartition(':')[2]}\n")
    except OSError as error:
        raise ServeError(f"`port_file` {path} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def ready_line(config: ServeConfig, models: ModelRegistry, grpc_address: str, http_address: str | None,
               seconds: float) -> str:
    """Addresses, models, engine, batch sizes, security, memory, and how long the start took."""
    served = []
    for servable, version_labels in models.loaded():
        metadata, labels = servable.metadata, "".join(f" '{label}'" for label in version_labels)
        served.append(f"model {servable.name}, version {servable.version}{labels} ({metadata.net}, "
                      f"{len(metadata.labels)} labels)")
    servable, _ = next(models.loaded())
    return "; ".join([
        f"voc-serve: ready on {grpc_address} (gRPC){f' and {http_address} (HTTP)' if http_address else ''}: "
        + "; ".join(served), servable.engine.description, f"batch sizes {' '.join(map(str, servable.batcher.sizes))}",
        _security(config.security), f"{_memory(models) / 2**30:.1f} GiB of memory", f"ready after {seconds:.1f} s"])


def stop_lines(requests: RequestCounts, models: ModelRegistry) -> Iterator[str]:
    """How the calls ended, and what each loaded version has computed."""
    yield f"voc-serve: stopped: {requests.answered} calls answered, {requests.failed} refused or failed"
    for servable, _ in models.loaded():
        counts = servable.batcher.counts
        yield (f"voc-serve: model {servable.name}, version {servable.version}: {counts.images} pictures in "
               f"{counts.batches} batches, largest {counts.largest}; {counts.dropped} dropped")


def _security(config: SecurityConfig) -> str:
    used = [name for name, given in (("TLS", config.tls_cert), ("client certificates", config.client_ca),
                                     ("keys", config.keys_file)) if given]
    return ", ".join(used) or "no encryption, no keys"


def _memory(models: ModelRegistry) -> int:
    """Bytes of memory that the server and its engines use; pages that they share count once (proc_pid_smaps(5))."""
    total = 0
    for pid in (os.getpid(), *(servable.engine.pid for servable, _ in models.loaded())):
        with contextlib.suppress(OSError):
            size = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += 1024 * int(size[1]) if size else 0
    return total
