"""The client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any, Unpack

import grpc

from voc_cls.client.client import BaseClient
from voc_cls.client.options import ClassifyOptions, model_request
from voc_cls.client.stream_state import CLOSE_TIMEOUT, ENDED_EARLY, StreamState
from voc_cls.client.types import ImageSource, ModelInfo, load_image, model_info, predictions
from voc_cls.prediction import Prediction
from voc_cls.v1 import classifier_pb2

BROKEN_WRITE = "Internal error from Core"
"""Details that grpc.aio gives, as INTERNAL, when a call ended while it wrote: the real status is lost, so try again."""


class AsyncClient(BaseClient):
    """The same methods and arguments as Client, as coroutines.

    Create it where the event loop runs, and use it in that loop only. Files are read in threads, so that they do not
    block the loop.
    """

    _grpc = grpc.aio

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; running calls end with an error."""
        await self._channel.close()

    async def classify(self, pictures: Sequence[ImageSource], *, raise_errors: bool = True,
                       request_id: str | None = None, **options: Unpack[ClassifyOptions]) -> list[Prediction]:
        """As Client.classify."""
        answers: list[Prediction] = []
        requests = self._batches(pictures, options, raise_errors)
        while following := await asyncio.to_thread(next, requests, None):
            request, batch = following
            response = await self._call(self._stub.Classify, request, request_id) if request.pictures else None
            answers += predictions(response, batch, raise_errors)
        return answers

    def classify_stream(self, pictures: Iterable[ImageSource] | AsyncIterable[ImageSource], *, window: int = 32,
                        ordered: bool = False, request_id: str | None = None,
                        **options: Unpack[ClassifyOptions]) -> AsyncIterator[tuple[int, Prediction]]:
        """As Client.classify_stream; an asynchronous iterable may wait for its images, an ordinary one should not.

        A loop that is left early ends the call when the iterator is closed: see contextlib.aclosing.
        """
        state, open_call = self._stream(options, window, ordered, request_id)
        return _Stream(state, open_call, pictures, self._max_bytes).predictions()

    async def model(self, name: str = "", *, version: int | None = None, version_label: str = "") -> ModelInfo:
        """As Client.model."""
        return model_info(await self._call(self._stub.GetModel, model_request(name, version, version_label)))

    async def _call(self, method: Callable[..., Any], request: Any, request_id: str | None = None) -> Any:
        """The response; waits for a server that is not ready."""
        retries = self._retries(request_id)
        while True:
            try:
                return await method(request, timeout=self._timeout, metadata=self._metadata(retries))
            except grpc.RpcError as error:
                pause = retries.pause(error.code(), error.details() or "")
            await asyncio.sleep(pause)


class _Stream:
    """The tasks around a StreamState: one reads images, one talks to the server; the caller's takes predictions."""

    def __init__(self, state: StreamState,
                 open_call: Callable[[AsyncIterator[classifier_pb2.ClassifyStreamRequest]], Any],
                 sources: Iterable[ImageSource] | AsyncIterable[ImageSource], max_bytes: int) -> None:
        self._state, self._open_call, self._sources, self._max_bytes = state, open_call, sources, max_bytes
        self._change = asyncio.Event()
        self._calls = 0

    async def predictions(self) -> AsyncIterator[tuple[int, Prediction]]:
        """(position, prediction); ends the tasks when it ends."""
        reader, talker = (asyncio.create_task(self._guard(work)) for work in (self._read(), self._talk()))
        try:
            while taken := await self._next():
                for position, prediction in taken:
                    yield position, prediction
            await asyncio.wait([talker], timeout=CLOSE_TIMEOUT)
        finally:
            self._state.closed = True
            for task in (reader, talker):
                task.cancel()
            await asyncio.gather(reader, talker, return_exceptions=True)

    async def _next(self) -> list[tuple[int, Prediction]]:
        """Waits for predictions; empty when all are taken."""
        while (taken := self._state.take()) is None:
            await self._wait(self._state.time_left)
        self._changed()
        return taken

    def _changed(self) -> None:
        """Wakes all waiting tasks."""
        self._change.set()
        self._change = asyncio.Event()

    async def _wait(self, seconds: float | None = None) -> None:
        """Waits until something changes, `seconds` at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._change.wait(), seconds)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs as a task; an exception there is raised in the caller's task."""
        try:
            await work
        except Exception as error:
            self._state.failure = self._state.failure or error
            self._changed()

    async def _read(self) -> None:
        position = 0
        async for source in self._each_source():
            image = await asyncio.to_thread(load_image, position, source, self._max_bytes)
            while not self._state.has_room:
                await self._wait()
            self._state.add(position, image)
            self._changed()
            position += 1
        self._state.complete = True
        self._changed()

    async def _each_source(self) -> AsyncIterator[ImageSource]:
        if isinstance(self._sources, AsyncIterable):
            async for source in self._sources:
                yield source
        else:
            for source in self._sources:
                yield source

    async def _talk(self) -> None:
        """Makes one call after the other until everything is answered."""
        while True:
            while not self._state.finished and self._state.send_delay is None:
                await self._wait()
            if self._state.finished:
                return
            status = await self._receive(self._open_call(self._requests(self._calls)))
            self._calls += 1
            self._changed()
            if not self._state.finished:
                await asyncio.sleep(self._state.call_ended(*status))

    async def _receive(self, call: Any) -> tuple[grpc.StatusCode, str]:
        """Takes all responses of a call; returns the status and details with which it ended."""
        try:
            async for response in call:
                self._state.receive(response)
                self._changed()
        except grpc.RpcError as error:
            broken = (error.details() or "").startswith(BROKEN_WRITE)
            return grpc.StatusCode.UNAVAILABLE if broken else error.code(), error.details() or ""
        finally:
            call.cancel()
        return ENDED_EARLY

    async def _requests(self, call: int) -> AsyncIterator[classifier_pb2.ClassifyStreamRequest]:
        """What gRPC sends, as fast as the server reads it."""
        while not self._state.finished and call == self._calls:
            request = self._state.next_request()
            self._changed()
            if request is None:
                await self._wait(self._state.send_delay)
            else:
                yield request
