"""Streams that would never end by themselves, and how they end when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

from grpc_reflection.v1alpha.reflection import aio as reflection


class StopEvent:
    """The moment at which the server stops."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def begun(self) -> bool:
        """Whether the streams are to end."""
        return self._event.is_set()

    def begin(self) -> None:
        """From now on the streams end."""
        self._event.set()

    async def run(self, work: Awaitable[None]) -> None:
        """Runs `work` to its end or until the server stops, whichever comes first."""
        task = asyncio.ensure_future(work)
        if await self._before(task):
            task.result()

    async def until(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The requests of a stream, as if the caller sent no more once the server stops."""
        while True:
            request = asyncio.ensure_future(anext(requests))
            if not await self._before(request):
                return
            try:
                yield request.result()
            except StopAsyncIteration:
                return

    async def _before(self, work: asyncio.Future[Any]) -> bool:
        """Waits for `work` or the stop; says whether it was `work`, and cancels it if not."""
        stop = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            return work.done()
        finally:
            stop.cancel()
            work.cancel()


class Reflection(reflection.ReflectionServicer):  # type: ignore[misc]
    """grpc.reflection.v1alpha: how grpcurl and its like learn the services."""

    def __init__(self, services: Sequence[str], stopping: StopEvent) -> None:
        super().__init__(services)
        self._stopping = stopping

    async def ServerReflectionInfo(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answers one question after another."""
        async for response in super().ServerReflectionInfo(self._stopping.until(request_iterator), context):
            yield response
