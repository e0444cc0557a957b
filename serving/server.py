"""One server from start to end: ports, model, services, and an orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from serving.calls import Calls
from serving.config import ServeConfig
from serving.errors import ServeError
from serving.listening import open_grpc, open_http
from serving.metadata import read_metadata
from serving.model_folder import ModelFolder, read_model_folder
from serving.models import Models
from serving.rest import Rest
from voc_cls.console import import_tensorflow
from voc_cls.files import write_text

if TYPE_CHECKING:
    from serving.servable import Servable
    from serving.streams import Health

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """SIGTERM and SIGINT: the first asks for an orderly stop, the second for a quick one."""

    def __init__(self) -> None:
        self.made, self.urgent = asyncio.Event(), asyncio.Event()
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        (self.urgent if self.made.is_set() else self.made).set()


async def serve(config: ServeConfig) -> None:
    """Serves until a stop is asked for. Raises ServeError if it cannot start or had to cut calls off."""
    started = time.monotonic()
    stop = StopRequest()
    folder = read_model_folder(config.model_dir)
    newest = folder.versions[-1]
    read_metadata(folder.version(newest))  # a foreign model is told now, not after TensorFlow has started
    _note_others(folder)
    decoders = ThreadPoolExecutor(config.resolved_threads, thread_name_prefix="decoder")
    models, calls = Models(config.name, config, decoders), Calls()
    rest = Rest(models)
    server, address = open_grpc(config, calls)
    http, http_address = await open_http(config, rest.application())
    import_tensorflow()  # takes seconds, so not before the folder and the ports are known to be good
    from serving.services import add_services
    from serving.streams import Stopping

    stopping = Stopping()
    health = await add_services(server, models, config.max_message_bytes, stopping)
    await server.start()
    try:
        loading = asyncio.ensure_future(models.load(newest, folder.version(newest)))
        await _first(loading, stop.made)
        if loading.done():
            _announce(loading.result(), address, http_address, time.monotonic() - started)
            await health.set_all(serving=True)
            with _port_file(config.port_file, address):
                await stop.made.wait()
        rest.draining = True
        stopping.begin()
        await _drain(server, health, calls, stop, config.grace_seconds)
        _sum_up(models, calls)
    finally:
        await server.stop(None)
        await http.cleanup()
    if loading.done():
        await models.unload(newest)


async def _drain(server: grpc.aio.Server, health: Health, calls: Calls, stop: StopRequest, grace: float) -> None:
    """No new calls, those that run are finished; ServeError if some were not in time."""
    await health.enter_graceful_shutdown()
    finished = asyncio.ensure_future(server.stop(grace + 60))  # the grace ends below, where the calls are counted
    await _first(finished, stop.urgent, grace)
    if not finished.done():
        finished.cancel()
        why = "a second signal came" if stop.urgent.is_set() else f"--grace-seconds {grace:g} had passed"
        raise ServeError(f"stopped with {calls.in_flight} calls unanswered, as {why}")


async def _first(work: asyncio.Future[Any], event: asyncio.Event, timeout: float | None = None) -> None:
    """Waits for the work, the event or the timeout, whichever comes first."""
    waiting: asyncio.Future[Any] = asyncio.ensure_future(event.wait())
    await asyncio.wait({work, waiting}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


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


def _note_others(folder: ModelFolder) -> None:
    if folder.others:
        print(f"voc-serve: note: in {folder.path} ignored, as they are no version numbers: {', '.join(folder.others)}",
              file=sys.stderr)


def _announce(servable: Servable, address: str, http_address: str | None, seconds: float) -> None:
    sizes = " ".join(map(str, servable.batcher.sizes))
    print(f"voc-serve: ready on {address} (gRPC){f' and {http_address} (HTTP)' if http_address else ''}: "
          f"model {servable.name}, version {servable.version} ({servable.metadata.net}, "
          f"{len(servable.metadata.labels)} labels); {servable.engine.description}; batch sizes {sizes}; "
          f"ready after {seconds:.1f} s", flush=True)


def _sum_up(models: Models, calls: Calls) -> None:
    print(f"voc-serve: stopped: {calls.answered} calls answered, {calls.failed} refused or failed", flush=True)
    for number, version in sorted(models.versions.items()):
        if version.servable is not None:
            counts = version.servable.batcher.counts
            print(f"voc-serve: version {number}: {counts.pictures} pictures in {counts.batches} batches, largest "
                  f"{counts.largest}; {counts.dropped} dropped, {counts.refused} refused", flush=True)
