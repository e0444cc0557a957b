"""A stream with coroutines: one reads the pictures, one talks with the server, the caller's takes the answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import grpc

from voc_cls.client.flight import ENDED_EARLY, Flight
from voc_cls.client.pictures import Source, load
from voc_cls.predictions import Prediction
from voc_cls.v1 import classifier_pb2

Requests = AsyncIterator[classifier_pb2.ClassifyStreamRequest]
FAREWELL = 1
"""Seconds that the server has to end a stream in which everything is answered."""
BROKEN_WRITE = "Internal error from Core"
"""What grpc.aio says, as INTERNAL, when a call ended while it wrote: how it ended is lost, so it is tried again."""


class Conversation:
    """The tasks around a Flight; `open_call` makes a call of requests."""

    def __init__(self, flight: Flight, open_call: Callable[[Requests], Any],
                 sources: Iterable[Source] | AsyncIterable[Source], max_bytes: int) -> None:
        self._flight, self._open_call, self._sources, self._max_bytes = flight, open_call, sources, max_bytes
        self._change = asyncio.Event()
        self._calls = 0

    async def answers(self) -> AsyncIterator[tuple[int, Prediction]]:
        """(position, prediction); ends the tasks when it ends."""
        reader, talker = (asyncio.create_task(self._watched(work)) for work in (self._read(), self._talk()))
        try:
            while taken := await self._next():
                for one in taken:
                    yield one
            await asyncio.wait([talker], timeout=FAREWELL)
        finally:
            self._flight.closed = True
            for task in (reader, talker):
                task.cancel()
            await asyncio.gather(reader, talker, return_exceptions=True)

    async def _next(self) -> list[tuple[int, Prediction]]:
        """Some answers, waited for; none when all are given."""
        while True:
            if taken := self._flight.take():
                self._changed()
                return taken
            if self._flight.failure is not None:
                raise self._flight.failure
            if self._flight.answered:
                return []
            patience = self._flight.patience
            if patience is not None and patience <= 0:
                self._flight.late()
            else:
                await self._wait(patience)

    def _changed(self) -> None:
        """Wakes all who wait."""
        self._change.set()
        self._change = asyncio.Event()

    async def _wait(self, seconds: float | None = None) -> None:
        """Until something changes, or so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._change.wait(), seconds)

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs as a task; what goes wrong there is raised in the caller's."""
        try:
            await work
        except Exception as error:
            self._flight.failure = self._flight.failure or error
            self._changed()

    async def _read(self) -> None:
        position = 0
        async for source in self._each_source():
            picture = await asyncio.to_thread(load, position, source, self._max_bytes)
            while not self._flight.room:
                await self._wait()
            self._flight.add(picture)
            self._changed()
            position += 1
        self._flight.ended = True
        self._changed()

    async def _each_source(self) -> AsyncIterator[Source]:
        if isinstance(self._sources, AsyncIterable):
            async for source in self._sources:
                yield source
        else:
            for source in self._sources:
                yield source

    async def _talk(self) -> None:
        """One call after the other, until everything is answered."""
        while True:
            while not self._flight.over and self._flight.pause is None:
                await self._wait()
            if self._flight.over:
                return
            ended = await self._receive(self._open_call(self._requests(self._calls)))
            self._calls += 1
            self._changed()
            if not self._flight.over:
                await asyncio.sleep(self._flight.lost(*ended))

    async def _receive(self, call: Any) -> tuple[grpc.StatusCode, str]:
        """Takes all answers of a call; how it ended."""
        try:
            async for response in call:
                self._flight.receive(response)
                self._changed()
        except grpc.RpcError as error:
            broken = (error.details() or "").startswith(BROKEN_WRITE)
            return grpc.StatusCode.UNAVAILABLE if broken else error.code(), error.details() or ""
        finally:
            call.cancel()
        return ENDED_EARLY

    async def _requests(self, call: int) -> Requests:
        """What gRPC sends, as fast as the server takes it."""
        while not self._flight.over and call == self._calls:
            request = self._flight.request()
            self._changed()
            if request is None:
                await self._wait(self._flight.pause)
            else:
                yield request
