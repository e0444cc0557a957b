"""A client of voc-serve that needs neither TensorFlow nor Keras.

    with Client("127.0.0.1:8500") as client:
        for prediction in client.classify([Path("a.jpg"), Path("b.jpg")], top_k=3):
            print(prediction.labels)
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from voc_cls.errors import ClientError
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc

SERVICE = classifier_pb2.DESCRIPTOR.services_by_name["Classifier"].full_name
RETRIES = json.dumps({"methodConfig": [{"name": [{"service": SERVICE}], "retryPolicy": {
    "maxAttempts": 5, "initialBackoff": "0.2s", "maxBackoff": "2s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"]}}]})
"""gRPC's own retry policy (gRFC A6): a server that is starting or stopping is asked again, with jitter."""
WAIT_INTERVAL = 0.5
"""Seconds between two questions to a server that is not ready."""
PICTURES_PER_CALL = 16
"""Enough to fill the server's default batch; a long list is sent in several calls."""
OVERHEAD = 1024
"""Bytes of a message besides its pictures, generously."""
BROKEN_PICTURE = re.compile(r"pictures\[(\d+)\]")


@dataclass(frozen=True)
class ScoredLabel:
    """A label and the probability, 0 to 1, that the picture shows it."""

    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a model says of one picture: its labels, the most probable first."""

    labels: tuple[ScoredLabel, ...]
    model: str
    """Name of the model that answered."""
    version: int | None = None
    """Its servable version; None for a run folder."""


@dataclass(frozen=True)
class _Picture:
    name: str
    content: bytes


class Client:
    """A connection to one server, for any number of calls from any thread; closes as a context manager or by `close`.

    `timeout` is the deadline of each call, seconds. `wait` is how long, seconds, to keep asking a server that is not
    there yet or still loads its model; `on_wait` is called once when that begins. `max_message_mb` bounds what is sent
    and received, MiB; the server has a bound of its own (voc-serve --max-message-mb).
    """

    def __init__(self, address: str, *, timeout: float = 60, wait: float = 0, max_message_mb: int = 64,
                 on_wait: Callable[[], object] = lambda: None) -> None:
        self._address = address
        self._timeout = timeout
        self._wait = wait
        self._on_wait = on_wait
        self._max_bytes = max_message_mb * 2**20
        self._channel = grpc.insecure_channel(address, options=[
            ("grpc.max_send_message_length", self._max_bytes), ("grpc.max_receive_message_length", self._max_bytes),
            ("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.service_config", RETRIES)])
        self._stub: Any = classifier_pb2_grpc.ClassifierStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def classify(self, pictures: Sequence[bytes | Path], *, top_k: int = 0, model: str = "") -> list[Prediction]:
        """Predictions for picture files, given as paths or as their bytes, in the same order.

        top_k: how many labels each prediction has, 0 for all. model: its name, "" for the server's only one. Raises
        ClientError naming the picture or the server.
        """
        return [prediction for call in self._calls(pictures) for prediction in self._classify(call, top_k, model)]

    def _calls(self, pictures: Sequence[bytes | Path]) -> Iterator[list[_Picture]]:
        """The pictures in portions that one message can take, each file read only when its turn comes."""
        for source in pictures:
            if isinstance(source, Path):
                _check_file(source)
        call: list[_Picture] = []
        size = 0
        for position, source in enumerate(pictures):
            picture = _Picture(str(source), _read(source)) if isinstance(source, Path) else _Picture(
                f"picture {position}", source)
            if len(picture.content) + OVERHEAD > self._max_bytes:
                raise ClientError(f"{picture.name} has {len(picture.content) / 2**20:.1f} MiB, more than the "
                                  f"{self._max_bytes / 2**20:g} MiB that a message may have: make it smaller, or raise "
                                  "max_message_mb here and --max-message-mb of voc-serve")
            if call and (len(call) == PICTURES_PER_CALL or size + len(picture.content) + OVERHEAD > self._max_bytes):
                yield call
                call, size = [], 0
            call.append(picture)
            size += len(picture.content) + OVERHEAD
        if call:
            yield call

    def _classify(self, pictures: list[_Picture], top_k: int, model: str) -> list[Prediction]:
        messages = [classifier_pb2.Picture(content=picture.content) for picture in pictures]
        request = classifier_pb2.ClassifyRequest(model=model, top_k=top_k, pictures=messages)
        try:
            response = self._asked(request)
        except grpc.RpcError as error:
            raise ClientError(self._told(error.code(), error.details() or "", pictures)) from None
        return [Prediction(tuple(ScoredLabel(scored.label, scored.probability) for scored in classification.labels),
                           response.model, response.version) for classification in response.classifications]

    def _asked(self, request: classifier_pb2.ClassifyRequest) -> classifier_pb2.ClassifyResponse:
        """The answer, waited for while the server is not ready."""
        give_up = time.monotonic() + self._wait
        told = False
        while True:
            try:
                response: classifier_pb2.ClassifyResponse = self._stub.Classify(request, timeout=self._timeout)
                return response
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > give_up:
                    raise
            if not told:
                self._on_wait()
                told = True
            time.sleep(WAIT_INTERVAL)

    def _told(self, code: grpc.StatusCode, details: str, pictures: list[_Picture]) -> str:
        """The sentence for a person, from a gRPC status."""
        server = f"the server at {self._address}"
        if code is grpc.StatusCode.INVALID_ARGUMENT and (broken := BROKEN_PICTURE.match(details)):
            return pictures[int(broken[1])].name + details[broken.end():]
        if code is grpc.StatusCode.UNAVAILABLE and "not ready" not in details and "stopping" not in details:
            return (f"no server answers at {self._address} ({details}): start one with voc-serve, or correct the "
                    "address")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return (f"{server} did not answer within {self._timeout:g} s: it is overloaded or not there; "
                    "try later, with fewer pictures or a longer timeout")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
            return (f"{server} takes no messages of this size ({details}): send fewer or smaller pictures, or raise "
                    "its --max-message-mb")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return f"{server} has no {SERVICE} ({details}): it is not voc-serve"
        return f"{server} refused the call with {code.name}: {details}"


def _check_file(path: Path) -> None:
    if not path.is_file():
        found = "is a folder, not a picture" if path.is_dir() else "is not there" if not path.exists() else "is no file"
        raise ClientError(f"{path} {found}: give the path of a JPEG, PNG, BMP or GIF file")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror}") from None
