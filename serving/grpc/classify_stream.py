"""Many requests over one call: read as far ahead as the server can use, answered as they are ready."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc

from serving.errors import ResourceExhausted, StatusError, Unavailable
from serving.grpc.streams import StopEvent
from serving.request_context import RequestContext
from voc_cls.v1 import classifier_pb2

log = logging.getLogger(__name__)

Classify = Callable[[classifier_pb2.ClassifyRequest], Awaitable[classifier_pb2.ClassifyResponse]]

SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
"""Seconds between two attempts to find places in a full server."""
FAILED = "the server failed on this request; its log says why"


class ClassifyStream:
    """One stream. A request that fails is answered with its error; the others do not notice."""

    def __init__(self, classify: Classify, call: RequestContext, read_ahead: int) -> None:
        """`read_ahead`: pictures that may be read and not yet answered; a request with more of them goes alone."""
        self._classify = classify
        self._call = call
        self._room = _Room(read_ahead)
        self._finding_places = asyncio.Lock()
        self._ready: asyncio.Queue[tuple[classifier_pb2.ClassifyStreamResponse, int] | None] = asyncio.Queue()
        self._work: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """The caller has gone: nothing of what was read is computed any more."""
        if self._work is not None:
            self._work.cancel()

    async def answers(self, requests: AsyncIterator[classifier_pb2.ClassifyStreamRequest],
                      stopping: StopEvent) -> AsyncIterator[classifier_pb2.ClassifyStreamResponse]:
        """The answer to each request, as it is ready.

        Raises Unavailable after the last one if the server stops before the caller has sent everything.
        """
        self._work = asyncio.create_task(self._read(requests, stopping))
        try:
            while (ready := await self._ready.get()) is not None:
                response, pictures = ready
                yield response
                self._room.leave(pictures)  # only now: a caller that does not read its answers is not read from either
            await self._work
        finally:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[classifier_pb2.ClassifyStreamRequest], stopping: StopEvent) -> None:
        complete, unreadable = False, None

        async def noticed() -> AsyncIterator[classifier_pb2.ClassifyStreamRequest]:
            nonlocal complete, unreadable
            try:
                async for request in requests:
                    yield request
                complete = True
            except StatusError as refusal:  # of a message; those before it are answered first
                unreadable = refusal

        try:
            async with asyncio.TaskGroup() as tasks:
                async for request in stopping.until(noticed()):
                    pictures = max(1, len(request.request.pictures))
                    await self._room.enter(pictures)
                    tasks.create_task(self._answer(request, pictures))
        finally:
            self._ready.put_nowait(None)
        if unreadable is not None:
            raise unreadable
        if not complete:
            raise Unavailable("the server is stopping: send again, to another one, what has no answer")

    async def _answer(self, request: classifier_pb2.ClassifyStreamRequest, pictures: int) -> None:
        response = classifier_pb2.ClassifyStreamResponse(id=request.id)
        try:
            response.response.CopyFrom(await self._with_places(request.request))
        except StatusError as refusal:
            response.error.CopyFrom(_error(refusal))
        except Exception:
            log.exception("request %d of a stream failed", request.id)
            response.error.code, response.error.message = grpc.StatusCode.INTERNAL.value[0], FAILED
        self._ready.put_nowait((response, pictures))

    async def _with_places(self, request: classifier_pb2.ClassifyRequest) -> classifier_pb2.ClassifyResponse:
        """Tries again where the server is full, one request of the stream at a time, while the deadline allows."""
        try:
            return await self._classify(request)
        except ResourceExhausted:
            pass
        async with self._finding_places:
            pause = SHORTEST_PAUSE
            while True:
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    return await self._classify(request)
                except ResourceExhausted:
                    if self._call.deadline is not None and asyncio.get_running_loop().time() >= self._call.deadline:
                        raise


class _Room:
    """Counts what is inside, up to a limit; what is larger than the limit may be inside alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0
        self._left = asyncio.Event()

    async def enter(self, number: int) -> None:
        """Waits until `number` more have room."""
        while self._inside and self._inside + number > self._limit:
            self._left.clear()
            await self._left.wait()
        self._inside += number

    def leave(self, number: int) -> None:
        """Makes room."""
        self._inside -= number
        self._left.set()


def _error(refusal: StatusError) -> classifier_pb2.Error:
    error = classifier_pb2.Error(code=refusal.status.value[0], message=str(refusal))
    if refusal.retry_after_ms is not None:
        error.retry_after_ms = refusal.retry_after_ms
    return error
