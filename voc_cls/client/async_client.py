"""The client for asyncio. gRPC's own threads make the calls; nothing here blocks the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Unpack

import grpc

from voc_cls.client.client import BaseClient, Stream
from voc_cls.client.types import ClassifyOptions, ImageSource, ModelInfo, model_info, model_request, predictions
from voc_cls.prediction import Prediction


class AsyncClient(BaseClient):
    """The same methods and arguments as Client, as coroutines. Images are read in threads."""

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; running calls end with an error."""
        self._channel.close()

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
        """As Client.classify_stream; an asynchronous iterable runs in the event loop, an ordinary one in a thread.

        A loop that is left early ends the call when the iterator is closed: see contextlib.aclosing.
        """
        return _predictions(self._stream(options, window, ordered, request_id), pictures)

    async def model(self, name: str = "", *, version: int | None = None, version_label: str = "") -> ModelInfo:
        """As Client.model."""
        return model_info(await self._call(self._stub.GetModel, model_request(name, version, version_label)))

    async def _call(self, method: Any, request: Any, request_id: str | None = None) -> Any:
        """The response; waits for a server that is not ready."""
        retries, loop = self._retries(request_id), asyncio.get_running_loop()
        while True:
            ended, metadata = asyncio.Event(), await asyncio.to_thread(self._metadata, retries)  # a token may take time
            call = method.future(request, timeout=self._timeout, metadata=metadata)
            call.add_done_callback(lambda _, ended=ended: loop.call_soon_threadsafe(ended.set))
            try:
                await ended.wait()
                return call.result()
            except grpc.RpcError as error:
                pause = retries.pause(error.code(), error.details() or "", bool(error.trailing_metadata()))
            finally:
                call.cancel()
            await asyncio.sleep(pause)


async def _predictions(stream: Stream, sources: Iterable[ImageSource] | AsyncIterable[ImageSource]
                       ) -> AsyncIterator[tuple[int, Prediction]]:
    """(position, prediction); ends the stream's threads when it ends."""
    loop, changed, awaited = asyncio.get_running_loop(), asyncio.Event(), list[Future[ImageSource]]()
    stream.start(_in_thread(sources, loop, awaited) if isinstance(sources, AsyncIterable) else sources,
                 lambda: loop.call_soon_threadsafe(changed.set))
    taken = None
    try:
        while taken != []:
            changed.clear()
            taken, time_left = stream.take()
            if taken is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), time_left)
            for answer in taken or ():
                yield answer
    finally:
        for future in awaited:
            future.cancel()
        await asyncio.to_thread(stream.close)


def _in_thread(sources: AsyncIterable[ImageSource], loop: asyncio.AbstractEventLoop,
               awaited: list[Future[ImageSource]]) -> Iterator[ImageSource]:
    """Each image, for a thread beside the loop; `awaited` has the one that is waited for."""
    iterator = aiter(sources)

    async def following() -> ImageSource:
        return await anext(iterator)

    while True:
        awaited[:] = [asyncio.run_coroutine_threadsafe(following(), loop)]
        try:
            yield awaited[0].result()
        except StopAsyncIteration:
            return
