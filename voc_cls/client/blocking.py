"""The client for ordinary code and threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Unpack

import grpc

from voc_cls.client.answers import ModelInfo, Portion, model_info
from voc_cls.client.blocking_stream import Conversation
from voc_cls.client.connection import Connection, new_request_id
from voc_cls.client.pictures import Source, check_files, portions
from voc_cls.client.questions import Question, classify_request, model_request
from voc_cls.predictions import Prediction
from voc_cls.v1 import classifier_pb2_grpc


class Client(Connection):
    """A connection to one server, for any number of calls from any thread; closes as a context manager or by `close`.

    Make it after a fork, not before: gRPC's threads do not survive one.
    """

    def _open(self, address: str, credentials: grpc.ChannelCredentials | None,
              options: list[tuple[str, str | int]]) -> Any:
        channel = (grpc.insecure_channel(address, options) if credentials is None
                   else grpc.secure_channel(address, credentials, options))
        self._stub: Any = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        return channel

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls that run end with an error."""
        self._channel.close()

    def classify(self, pictures: Sequence[Source], *, raise_errors: bool = True, request_id: str | None = None,
                 **question: Unpack[Question]) -> list[Prediction]:
        """Predictions for picture files, given as paths or as their bytes, in the same order.

        raise_errors: a picture that cannot be read or is none raises ClientError, which names it; False: its
        prediction has an `error`, the others their labels. request_id: x-request-id of the calls, or a new one.
        Further arguments: see Question. Raises CallError if the server cannot be reached or refuses the call.
        """
        if raise_errors:
            check_files(pictures)
        found: list[Prediction] = []
        for read in portions(pictures, self._max_bytes):
            portion = Portion(read, raise_errors=raise_errors)
            request = classify_request(question, portion.sent)
            found += portion.predictions(self._ask(self._stub.Classify, request, request_id) if portion.sent else None)
        return found

    def classify_stream(self, pictures: Iterable[Source], *, window: int = 32, ordered: bool = False,
                        request_id: str | None = None,
                        **question: Unpack[Question]) -> Iterator[tuple[int, Prediction]]:
        """(position, prediction) of any number of pictures, over one call, as the answers come.

        `pictures` is read ahead by at most `window` pictures, in a thread of its own, so a generator may wait for a
        camera. A picture that fails alone has a prediction with an `error`; CallError ends the stream. If the server
        goes away, what it had not answered is sent again, to it or to another, for `wait` seconds at least.
        ordered: in the order of `pictures`; what is answered early counts as read ahead. Leaving the loop ends the
        call. Further arguments: see Question.
        """
        flight, metadata = self._flight(question, window, ordered, request_id)
        conversation = Conversation(flight, lambda requests: self._stub.ClassifyStream(requests, metadata=metadata()),
                                    pictures, self._max_bytes)
        return conversation.answers()

    def model(self, name: str = "", *, version: int | None = None, version_label: str = "") -> ModelInfo:
        """What a model is; "" is the server's only one. CallError if there is no such model or version."""
        return model_info(self._ask(self._stub.GetModel, model_request(name, version, version_label)))

    def _ask(self, method: Callable[..., Any], request: Any, request_id: str | None = None) -> Any:
        """The answer, waited for while the server is not ready."""
        request_id, patience = request_id or new_request_id(), self._patience()
        while True:
            try:
                return method(request, timeout=self._timeout, metadata=self._metadata(request_id))
            except grpc.RpcError as error:
                pause = patience.pause(error.code())
                if pause is None:
                    raise self._teller.error(error.code(), error.details() or "", request_id) from None
            time.sleep(pause)
