"""Signals, and how a server stops: how calls and streams end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from typing import Any


class Signals:
    """SIGTERM and SIGINT: the first stops the server in order, the second at once. SIGHUP: `reload` is set.

    Also under nohup, as nginx has it: a terminal that closes then has the server read its files again, no more.
    """

    def __init__(self) -> None:
        self.stop, self.stop_now, self.reload = asyncio.Event(), asyncio.Event(), asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload.set)
        for number in (signal.SIGTERM, signal.SIGINT):
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
