"""How a server stops: the signals, and how calls and streams end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from serving.errors import ServeError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """SIGTERM and SIGINT: the first stops the server in order, the second at once."""

    def __init__(self) -> None:
        self.stop, self.stop_now = asyncio.Event(), asyncio.Event()
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        (self.stop_now if self.stop.is_set() else self.stop).set()

    async def pause(self, seconds: float) -> None:
        """Waits, or until the second signal."""
        if seconds:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop_now.wait(), seconds)


class StopEvent(asyncio.Event):
    """Set when the server stops; ends streams whose callers would keep them open."""

    async def until(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The requests of a stream, as if the caller sent no more once the server stops."""
        while True:
            request = asyncio.ensure_future(anext(requests))
            try:
                await wait_first(request, self)
                if not request.done():
                    return
                yield request.result()
            except StopAsyncIteration:
                return
            finally:
                request.cancel()


async def wait_first(work: asyncio.Future[Any], event: asyncio.Event, timeout: float | None = None) -> None:
    """Waits for the work, the event or the timeout, whichever comes first."""
    waiting: asyncio.Future[Any] = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({work, waiting}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def drain(ports: Sequence[Callable[[], Awaitable[Any]]], in_flight: Callable[[], int], signals: StopSignals,
                grace: float) -> None:
    """Closes the ports: no new requests, and those in flight are finished.

    Responses that nobody reads, or watchers of health, can hold a port open, but are not a failure.

    Args:
        ports: closes a port each.
        in_flight: number of requests being answered.
        signals: a second one ends the wait.
        grace: how long to wait, seconds.

    Raises:
        ServeError: requests were still in flight when the wait ended.
    """
    closing = asyncio.gather(*(close() for close in ports))
    await wait_first(closing, signals.stop_now, grace)
    if closing.done():
        closing.result()
        return
    unanswered = in_flight()
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    if unanswered:
        why = "a second signal came" if signals.stop_now.is_set() else f"`grace_seconds` {grace:g} had passed"
        raise ServeError(f"stopped with {unanswered} calls unanswered, as {why}")
