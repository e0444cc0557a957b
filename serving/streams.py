"""Health and reflection: the streams that would never end by themselves. They end when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha.reflection import aio as reflection


class Stopping:
    """The moment at which the server stops."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

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


class Health(health.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1: Check and Watch, for the server ("") and each of its services."""

    def __init__(self, services: Sequence[str], stopping: Stopping) -> None:
        super().__init__()
        self._services = ("", *services)
        self._stopping = stopping

    async def set_all(self, serving: bool) -> None:
        """Sets the status of the server and of all its services."""
        statuses = health_pb2.HealthCheckResponse
        for service in self._services:
            await self.set(service, statuses.SERVING if serving else statuses.NOT_SERVING)

    async def Watch(self, request: Any, context: Any) -> None:
        """Status of one service, now and whenever it changes."""
        await self._stopping.run(super().Watch(request, context))


class Reflection(reflection.ReflectionServicer):  # type: ignore[misc]
    """grpc.reflection.v1alpha: how grpcurl and its like learn the services."""

    def __init__(self, services: Sequence[str], stopping: Stopping) -> None:
        super().__init__(services)
        self._stopping = stopping

    async def ServerReflectionInfo(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answers one question after another."""
        async for response in super().ServerReflectionInfo(self._stopping.until(request_iterator), context):
            yield response
