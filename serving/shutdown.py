"""How a server stops: the signals that ask for it, and the order in which things end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from serving.errors import ServeError
from serving.request_middleware import RequestCounts

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """SIGTERM and SIGINT: the first asks for an orderly stop, the second for a quick one."""

    def __init__(self) -> None:
        self.made, self.urgent = asyncio.Event(), asyncio.Event()
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        (self.urgent if self.made.is_set() else self.made).set()


async def first(work: asyncio.Future[Any], event: asyncio.Event, timeout: float | None = None) -> None:
    """Waits for the work, the event or the timeout, whichever comes first."""
    waiting: asyncio.Future[Any] = asyncio.ensure_future(event.wait())
    await asyncio.wait({work, waiting}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


async def pause(stop: StopSignals, seconds: float) -> None:
    """Waits, but no longer than until a quick stop is asked for."""
    if seconds:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.urgent.wait(), seconds)


async def drain(ports: Sequence[Callable[[], Awaitable[Any]]], counts: RequestCounts, stop: StopSignals,
                grace: float) -> None:
    """Closes the ports: no new calls, those that run are finished; ServeError if some were not in time.

    Answers that nobody takes, or watchers of health that read nothing, can hold a port open, but are no failure.
    """
    finished = asyncio.gather(*(close() for close in ports))
    await first(finished, stop.urgent, grace)
    if not finished.done():
        unanswered = counts.in_flight
        finished.cancel()
        await asyncio.gather(finished, return_exceptions=True)
        if not unanswered:
            return
        why = "a second signal came" if stop.urgent.is_set() else f"--grace-seconds {grace:g} had passed"
        raise ServeError(f"stopped with {unanswered} calls unanswered, as {why}")
    finished.result()
