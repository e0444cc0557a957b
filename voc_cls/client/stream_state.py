"""The state of one classify stream: which images to send next, which are answered, which to send again.

No I/O and no waiting: client.Stream does both around it.
"""

from __future__ import annotations

import time
from collections import Counter

import grpc

from voc_cls.client.errors import CLIENT_LIMIT, MESSAGE_TOO_LARGE, Retries
from voc_cls.client.types import ClassifyOptions, Image, classify_request, failed, predictions
from voc_cls.errors import ClientError
from voc_cls.prediction import Prediction
from voc_cls.v1 import classifier_pb2

CLOSE_TIMEOUT = 1
"""Seconds that the server has to end a stream in which everything is answered."""
SINGLE_IMAGE_STATUSES = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
"""The server failed, maybe because of this image; any other refusal would apply to every other image too."""
ENDED_EARLY = (grpc.StatusCode.UNAVAILABLE, "the stream ended before all pictures were answered", True)
"""The status of a call that ended with OK, but with images unanswered."""
LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""How a stream ends with its server; CANCELLED, behind HAProxy. This client cancels only what is finished."""
CODES = {code.value[0]: code for code in grpc.StatusCode}


class StreamState:
    """Holds at most `window` images, and about one message's bytes: to be sent, sent, or answered but not taken.

    ordered: whether predictions are handed over in the order of the images.
    """

    def __init__(self, options: ClassifyOptions, *, window: int, ordered: bool, retries: Retries) -> None:
        if window < 1:
            raise ClientError(f"`window` {window} is below 1")
        classify_request(options)  # so that wrong options are reported before anything is sent
        self._options, self._window, self._ordered = options, window, ordered
        self._retries, self._server_max_bytes = retries, retries.max_bytes
        self._pending: dict[int, Image] = {}
        """Images without an answer, by position."""
        self._to_send: list[int] = []
        self._due: dict[int, float] = {}
        """Those that were refused are not to be sent before, time.monotonic()."""
        self._refusals: Counter[int] = Counter()
        """Of each image, since the last answer to any."""
        self._predictions: dict[int, Prediction] = {}
        self._next_position = 0
        self._pending_bytes = 0
        self._last_response = time.monotonic()
        self._call_responded = False
        self.complete = False
        """Set when all images have been added."""
        self.closed = False
        """Set when the caller wants no more predictions."""
        self.failure: BaseException | None = None
        """What ended the stream early."""

    @property
    def has_room(self) -> bool:
        """Whether another image may be added."""
        held = len(self._pending) + len(self._predictions)
        return held < self._window and self._pending_bytes < self._retries.max_bytes

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to send or to wait for."""
        return self.all_answered or self.closed or self.failure is not None

    @property
    def all_answered(self) -> bool:
        """Whether no image is left to be answered."""
        return self.complete and not self._pending

    def add(self, position: int, image: Image | Prediction) -> None:
        """Adds the caller's next image, or the prediction with an error that it already has."""
        if isinstance(image, Prediction):
            self._predictions[position] = image
            return
        if not self._pending:
            self._last_response = time.monotonic()
        self._pending[position] = image
        self._pending_bytes += image.size
        self._to_send.append(position)

    def next_request(self) -> classifier_pb2.ClassifyStreamRequest | None:
        """What to send now; None if there is nothing, or not yet."""
        now = time.monotonic()
        position = next((position for position in self._to_send if self._due.get(position, 0) <= now), None)
        if position is None:
            return None
        self._to_send.remove(position)
        image = self._pending[position]
        if image.size > self._server_max_bytes:
            limit = f"the {self._server_max_bytes / 2**20:g} MiB that the server accepts"
            self._answer(image, failed(image.too_large(limit, "raise the server's `max_message_mb`")))
            return self.next_request()
        return classifier_pb2.ClassifyStreamRequest(id=position, request=classify_request(self._options, [image]))

    @property
    def send_delay(self) -> float | None:
        """Seconds until there is something to send; None if that is not known."""
        due = [self._due.get(position, 0) for position in self._to_send]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def receive(self, response: classifier_pb2.ClassifyStreamResponse) -> None:
        """Takes a response of the server; CallError for a refusal that would apply to every other image too."""
        image = self._pending.get(response.id)
        if image is None:
            return
        self._last_response, self._call_responded = time.monotonic(), True
        if response.HasField("error"):
            self._refused(image, response.error)
            return
        self._retries.restart()
        self._refusals.clear()
        (prediction,) = predictions(response.response, [image])
        self._answer(image, prediction)

    def call_ended(self, code: grpc.StatusCode, details: str, answered: bool = False) -> float:
        """Prepares for another call, as this one has ended with images unanswered; arguments as for Retries.pause.

        Returns the seconds to wait before it; CallError if another call would end the same way.
        """
        too_large = MESSAGE_TOO_LARGE.search(details)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and too_large and not CLIENT_LIMIT.search(details):
            if int(too_large[2]) >= self._server_max_bytes:
                raise self._retries.error(code, details)
            self._server_max_bytes = int(too_large[2])
            pause = 0.0
        elif self._call_responded and code in LOST:
            pause = 0.0  # the server was fine until now: unanswered images are sent again at once
        else:
            pause = self._retries.pause(code, details, answered)
        self._call_responded = False
        self._last_response = time.monotonic() + pause
        self._to_send = sorted(self._pending)
        return pause

    @property
    def time_left(self) -> float | None:
        """Seconds until the server has been silent for too long; None while it has nothing to answer."""
        if not self._pending:
            return None
        return max([self._last_response, *self._due.values()]) + self._retries.timeout - time.monotonic()

    def take(self) -> list[tuple[int, Prediction]] | None:
        """Hands over what is ready, as (position, prediction), and makes room for more images.

        Returns [] when everything has been handed over, None if the caller has to wait, `time_left` seconds at most.
        Raises what ended the stream early, or CallError if the server has been silent for too long.
        """
        if taken := self._ready():
            return taken
        if self.failure is None and self.time_left is not None and self.time_left <= 0:
            self.failure = self._retries.error(grpc.StatusCode.DEADLINE_EXCEEDED, "")
        if self.failure is not None:
            raise self.failure
        return [] if self.all_answered else None

    def _ready(self) -> list[tuple[int, Prediction]]:
        if not self._ordered:
            ready, self._predictions = list(self._predictions.items()), {}
            return ready
        ready = []
        while self._next_position in self._predictions:
            ready.append((self._next_position, self._predictions.pop(self._next_position)))
            self._next_position += 1
        return ready

    def _refused(self, image: Image, error: classifier_pb2.Error) -> None:
        code = CODES.get(error.code, grpc.StatusCode.UNKNOWN)
        if code in SINGLE_IMAGE_STATUSES:
            self._answer(image, failed(f"{image.name}: {self._retries.error(code, error.message)}"))
            return
        self._refusals[image.position] += 1
        pause = self._retries.image_pause(code, error, self._refusals[image.position])
        self._due[image.position] = time.monotonic() + pause
        self._to_send.append(image.position)

    def _answer(self, image: Image, prediction: Prediction) -> None:
        del self._pending[image.position]
        self._due.pop(image.position, None)
        self._pending_bytes -= image.size
        self._predictions[image.position] = prediction
