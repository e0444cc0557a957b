"""One server from start to end: ports, models, services, what it prints, and an orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from serving.config.config import SecurityConfig, ServeConfig
from serving.config.models import model_settings
from serving.core import Core
from serving.decoding.pool import DecoderPool
from serving.errors import ServeError, StatusError
from serving.grpc.services import add_services
from serving.listeners import HttpListener, open_grpc, open_http, reach
from serving.models.registry import ModelRegistry
from serving.request_middleware import CLOSED_SECONDS
from serving.security.tls import Certificates
from serving.shutdown import Signals, StopEvent, wait_first
from serving.telemetry.logs import Logs
from voc_cls.console import with_flags
from voc_cls.errors import VocError
from voc_cls.files import write_text

log = logging.getLogger(__name__)

RELOADED = {"model_dir", "model_name", "versions", "version_labels", "models_file", "served"}
"""Fields that SIGHUP applies."""


async def serve(config: ServeConfig, read_again: Callable[[], ServeConfig], out: int, err: int) -> None:
    """Serves until a stop signal. Raises ServeError if it cannot start or had to cut calls off.

    `read_again`: reads the configuration again, or raises UsageError; `out` and `err`: file descriptors for the lines
    of stdout and for the log.
    """
    started = time.monotonic()
    signals = Signals()
    logs = Logs(config.observability, out, err)
    try:
        await Server(config, read_again, signals, logs).run(started)
    finally:
        logs.close()


class Server:
    """The parts of one server, and what happens to them from start to end."""

    def __init__(self, config: ServeConfig, read_again: Callable[[], ServeConfig], signals: Signals,
                 logs: Logs) -> None:
        """Finds everything that can be known to be wrong before a model is loaded."""
        _remove(config.ports.port_file)  # left by a server that was killed; it would say that this one is ready
        self._config, self._read_again = config, read_again
        self._signals, self._logs, security = signals, logs, config.security
        self._core = Core(config, logs)
        self._models, self._middleware = self._core.models, self._core.middleware
        self._certificates = (Certificates(security.tls_cert, security.tls_key, security.client_ca)
                              if security.tls_cert is not None and security.tls_key is not None else None)
        self._grpc, self._grpc_address = open_grpc(
            config, self._core.interceptor, self._certificates.grpc_credentials() if self._certificates else None)

    async def run(self, started: float) -> None:
        """Serves until a stop signal; `started`: the monotonic time of the start, for the ready line."""
        loading = asyncio.ensure_future(self._models.start())
        try:
            await self._serve(loading, started)
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await self._grpc.stop(None)
            await self._core.close()

    async def _serve(self, loading: asyncio.Future[None], started: float) -> None:
        http = await open_http(self._config, self._core.http_application(),
                               self._certificates.http_context() if self._certificates else None)
        try:
            stop_event = StopEvent()
            health = add_services(self._grpc, self._models, self._config, stop_event)
            await self._grpc.start()
            log.info("listening on %s", self._listens(http.address))
            await wait_first(loading, self._signals.stop)
            if loading.done():
                loading.result()
                await self._answer(http, started)
            self._models.open(False)
            await self._signals.pause(self._config.life_cycle.lame_duck_seconds)
            stop_event.set()
            health.refresh()  # ends its streams
            await self._stop(http)
        finally:
            await http.close()

    async def _answer(self, http: HttpListener, started: float) -> None:
        """From readiness until a stop signal."""
        port_file = self._config.ports.port_file
        watching = asyncio.gather(self._models.watch(self._config.models.poll_seconds), self._reload_on_signal())
        try:
            self._models.open(True)
            self._logs.say(self._ready_line(http.address, time.monotonic() - started))
            if port_file is not None:
                try:
                    write_text(port_file, f"{self._grpc_address.rpartition(':')[2]}\n")
                except OSError as error:
                    raise ServeError(f"`port_file` {port_file} cannot be written: {error.strerror}") from None
            await self._signals.stop.wait()
        finally:
            _remove(port_file)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _reload_on_signal(self) -> None:
        """At every SIGHUP reads keys, certificates and configuration again, until it is cancelled.

        Keys, certificates and models apply; the rest of a configuration that has changed waits for a restart.
        """
        while True:
            await self._signals.reload.wait()
            self._signals.reload.clear()
            log.info("SIGHUP: keys, certificates and configuration are read again")
            try:
                await asyncio.to_thread(self._middleware.authenticator.refresh, now=True)
                if self._certificates is not None:
                    await asyncio.to_thread(self._certificates.refresh, now=True)
                config = await asyncio.to_thread(self._read_again)
                settings = await asyncio.to_thread(model_settings, config.models)
                for group, values in vars(config).items():
                    before = vars(getattr(self._config, group))
                    for name, value in vars(values).items():
                        if name not in RELOADED and value != before[name]:
                            log.warning("SIGHUP: `%s` is still %s: %s takes a restart", name, before[name], value)
                with contextlib.suppress(StatusError):  # logged with the reason
                    await self._models.reload(settings, by_operator=True)
            except VocError as error:
                log.error("SIGHUP: the configuration is refused, nothing has changed: %s", with_flags(str(error)))
            except Exception:
                log.exception("SIGHUP: the reload failed")

    async def _stop(self, http: HttpListener) -> None:
        """No new requests, and those in flight are finished; ServeError if they were not when the wait ended.

        Responses that nobody reads, or watchers of health, can hold a port open, but are not a failure.
        """
        grace, middleware, signals = self._config.life_cycle.grace_seconds, self._middleware, self._signals
        middleware.closed = True
        await signals.pause(CLOSED_SECONDS)
        # the grace ends here, where the requests are counted
        closing = asyncio.gather(self._grpc.stop(grace + 60), http.drain(lambda: middleware.in_flight))
        await wait_first(closing, signals.stop_now, grace)
        if closing.done():
            closing.result()
        else:
            unanswered = middleware.in_flight
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)
            if unanswered:
                why = "a second signal came" if signals.stop_now.is_set() else f"`grace_seconds` {grace:g} had passed"
                raise ServeError(f"stopped with {unanswered} calls unanswered, as {why}")
        self._logs.say(f"voc-serve: stopped: {middleware.answered} calls answered, {middleware.failed} refused or "
                       "failed")
        for servable, _ in self._models.loaded():
            computed = servable.batcher
            self._logs.say(f"voc-serve: model {servable.name}, version {servable.version}: {computed.images} pictures "
                           f"in {computed.batches} batches, largest {computed.largest}; {computed.dropped} dropped")

    def _listens(self, http_address: str | None) -> str:
        return f"{self._grpc_address} (gRPC){f' and {http_address} (HTTP)' if http_address else ''}"

    def _ready_line(self, http_address: str | None, seconds: float) -> str:
        """Addresses, models, engine, batch sizes, security, memory, and how long the start took."""
        scheme = "http" if self._certificates is None else "https"
        served: list[str] = []
        engines: dict[str, None] = {}
        for servable, version_labels in self._models.loaded():
            metadata, labels = servable.metadata, "".join(f" '{label}'" for label in version_labels)
            served.append(f"model {servable.name}, version {servable.version}{labels} ({metadata.net}, "
                          f"{len(metadata.labels)} labels)")
            engines[f"{servable.engine.description}; batch sizes {' '.join(map(str, servable.batcher.sizes))}"] = None
        return "; ".join([
            f"voc-serve: ready on {self._listens(http_address)}: " + "; ".join(served), *engines,
            *([f"page: {scheme}://{http_address}/"] if http_address and self._config.ports.page else ()),
            reach(self._config.ports.host), _security(self._config.security),
            f"{_memory(self._models, self._core.decoders) / 2**30:.1f} GiB of memory", f"ready after {seconds:.1f} s"])


def _remove(file: Path | None) -> None:
    with contextlib.suppress(OSError):
        if file is not None:
            file.unlink()


def _security(config: SecurityConfig) -> str:
    used = [name for name, given in (("TLS", config.tls_cert), ("client certificates", config.client_ca),
                                     ("keys", config.keys_file)) if given]
    return ", ".join(used) or "no encryption, no keys"


def _memory(models: ModelRegistry, decoders: DecoderPool) -> int:
    """Bytes of memory that all processes of the server use; pages that they share count once (proc_pid_smaps(5))."""
    total = 0
    for pid in (os.getpid(), *decoders.pids, *(servable.engine.pid for servable, _ in models.loaded())):
        with contextlib.suppress(OSError):
            size = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += 1024 * int(size[1]) if size else 0
    return total
