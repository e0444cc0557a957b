"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Unpack

import grpc

from voc_cls.client.answers import ModelInfo, Portion, model_info
from voc_cls.client.asynchronous_stream import Conversation
from voc_cls.client.connection import Connection, new_request_id
from voc_cls.client.pictures import Source, check_files, portions
from voc_cls.client.questions import Question, classify_request, model_request
from voc_cls.predictions import Prediction
from voc_cls.v1 import classifier_pb2_grpc


class AsyncClient(Connection):
    """As Client, with coroutines; make it where the event loop runs, and use it there only.

    Files are read in threads, so that they do not hold up the loop.
    """

    def _open(self, address: str, credentials: grpc.ChannelCredentials | None,
              options: list[tuple[str, str | int]]) -> Any:
        channel = (grpc.aio.insecure_channel(address, options) if credentials is None
                   else grpc.aio.secure_channel(address, credentials, options))
        self._stub: Any = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        return channel

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls that run end with an error."""
        await self._channel.close()

    async def classify(self, pictures: Sequence[Source], *, raise_errors: bool = True, request_id: str | None = None,
                       **question: Unpack[Question]) -> list[Prediction]:
        """As Client.classify."""
        if raise_errors:
            await asyncio.to_thread(check_files, pictures)
        found: list[Prediction] = []
        to_come = portions(pictures, self._max_bytes)
        while read := await asyncio.to_thread(next, to_come, None):
            portion = Portion(read, raise_errors=raise_errors)
            request = classify_request(question, portion.sent)
            found += portion.predictions(
                await self._ask(self._stub.Classify, request, request_id) if portion.sent else None)
        return found

    def classify_stream(self, pictures: Iterable[Source] | AsyncIterable[Source], *, window: int = 32,
                        ordered: bool = False, request_id: str | None = None,
                        **question: Unpack[Question]) -> AsyncIterator[tuple[int, Prediction]]:
        """As Client.classify_stream; an asynchronous iterable may wait for its pictures, an ordinary one should not.

        A loop that is left early ends the call when the iterator is closed: see contextlib.aclosing.
        """
        flight, metadata = self._flight(question, window, ordered, request_id)
        conversation = Conversation(flight, lambda requests: self._stub.ClassifyStream(requests, metadata=metadata()),
                                    pictures, self._max_bytes)
        return conversation.answers()

    async def model(self, name: str = "", *, version: int | None = None, version_label: str = "") -> ModelInfo:
        """As Client.model."""
        return model_info(await self._ask(self._stub.GetModel, model_request(name, version, version_label)))

    async def _ask(self, method: Callable[..., Any], request: Any, request_id: str | None = None) -> Any:
        """The answer, waited for while the server is not ready."""
        request_id, patience = request_id or new_request_id(), self._patience()
        while True:
            try:
                return await method(request, timeout=self._timeout, metadata=self._metadata(request_id))
            except grpc.RpcError as error:
                pause = patience.pause(error.code())
                if pause is None:
                    raise self._teller.error(error.code(), error.details() or "", request_id) from None
            await asyncio.sleep(pause)
