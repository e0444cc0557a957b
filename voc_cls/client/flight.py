"""The pictures of one stream that are on their way: what to send next, what came of it, what to send again.

No I/O and no waiting: the clients, with threads or with coroutines, stand around it.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import grpc

from voc_cls.client.answers import predictions, unsent
from voc_cls.client.failures import OF_THE_CLIENT, TOO_LARGE, Patience, Teller
from voc_cls.client.pictures import Picture, Unreadable
from voc_cls.client.questions import Question, classify_request
from voc_cls.predictions import Prediction
from voc_cls.v1 import classifier_pb2

RETRIED_STATUSES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
OF_ONE_PICTURE = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
"""The server failed, maybe on this picture; other refusals would meet every other picture too."""
ATTEMPTS = 5
"""How often a picture is refused at most while no other is answered; as in the retry policy of other calls."""
BACKOFF = 0.2
"""Seconds before the second attempt, then twice as long each time, where the server does not say how long."""
ENDED_EARLY = (grpc.StatusCode.UNAVAILABLE, "the stream ended before all was answered")
"""The status of a call that ended well, but with pictures unanswered."""
CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass
class _Unanswered:
    picture: Picture
    refusals: int = 0
    """Since the last answer to any picture."""
    after: int = 0
    """How many answers there were at the last refusal."""
    due: float = 0
    """Not to be sent before, time.monotonic()."""


class Flight:
    """`window` pictures at most, and about `max_bytes`, are held: sent, to be sent again, or answered and not taken."""

    def __init__(self, question: Question, *, window: int, ordered: bool, max_bytes: int, teller: Teller,
                 patience: Patience, request_id: str) -> None:
        classify_request(question)  # a wrong question is told before anything is sent
        self._question, self._teller, self._patience, self._request_id = question, teller, patience, request_id
        self._window, self._ordered, self._max_bytes = window, ordered, max_bytes
        self._server_bytes = max_bytes
        self._unanswered: dict[int, _Unanswered] = {}
        self._to_send: deque[int] = deque()
        self._answers: dict[int, Prediction] = {}
        self._taken = 0
        self._answered = 0
        self._bytes = 0
        self._alive = time.monotonic()
        self._lively = False
        self.ended = False
        """No more pictures will be added."""
        self.closed = False
        """The caller wants no more answers."""
        self.failure: BaseException | None = None
        """What ended the stream early."""

    @property
    def room(self) -> bool:
        """Whether another picture may be added."""
        return len(self._unanswered) + len(self._answers) < self._window and self._bytes < self._max_bytes

    @property
    def answered(self) -> bool:
        """Whether every picture is, and no more will come."""
        return self.ended and not self._unanswered

    @property
    def over(self) -> bool:
        """Whether there is nothing left to send or to wait for."""
        return self.answered or self.closed or self.failure is not None

    def add(self, picture: Picture | Unreadable) -> None:
        """The next picture of the caller."""
        if isinstance(picture, Unreadable):
            self._answers[picture.position] = unsent(picture)
            return
        if not self._unanswered:
            self._alive = time.monotonic()
        self._unanswered[picture.position] = _Unanswered(picture)
        self._bytes += picture.size
        self._to_send.append(picture.position)

    def request(self) -> classifier_pb2.ClassifyStreamRequest | None:
        """What to send now; None if there is nothing, or not yet."""
        now = time.monotonic()
        for position in self._to_send:
            waiting = self._unanswered[position]
            if waiting.due <= now:
                break
        else:
            return None
        self._to_send.remove(position)
        if waiting.picture.size > self._server_bytes:
            self._refuse_size(waiting.picture)
            return self.request()
        return classifier_pb2.ClassifyStreamRequest(
            id=position, request=classify_request(self._question, [waiting.picture]))

    @property
    def pause(self) -> float | None:
        """Seconds until there will be something to send; None if that is not known."""
        due = [self._unanswered[position].due for position in self._to_send]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def receive(self, response: classifier_pb2.ClassifyStreamResponse) -> None:
        """An answer of the server; CallError if it refuses what every other picture would be refused for too."""
        waiting = self._unanswered.get(response.id)
        if waiting is None:
            return
        self._alive, self._lively = time.monotonic(), True
        if response.HasField("error"):
            self._refused(waiting, response.error)
            return
        self._patience.renew()
        self._answered += 1
        (answer,) = predictions(response.response, [waiting.picture])
        self._answer(waiting.picture, answer)

    def lost(self, code: grpc.StatusCode, details: str) -> float:
        """The call has ended with pictures unanswered: they will be sent again. Seconds to wait before the next call;
        CallError if another would end the same way."""
        too_large = TOO_LARGE.search(details)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and too_large and not OF_THE_CLIENT.search(details):
            pause: float | None = 0 if int(too_large[2]) < self._server_bytes else None
            self._server_bytes = min(self._server_bytes, int(too_large[2]))
        elif self._lively and code is grpc.StatusCode.UNAVAILABLE:
            pause = 0  # it did answer: what was sent meanwhile is sent again at once
        else:
            pause = self._patience.pause(code)
        if pause is None:
            raise self._teller.error(code, details, self._request_id)
        self._lively = False
        self._alive = time.monotonic() + pause
        self._to_send = deque(sorted(self._unanswered))
        return pause

    @property
    def patience(self) -> float | None:
        """Seconds until the server's silence is too long; None while nothing is asked of it."""
        if not self._unanswered:
            return None
        due = max(waiting.due for waiting in self._unanswered.values())
        return max(self._alive, due) + self._teller.timeout - time.monotonic()

    def late(self) -> None:
        """The server was silent for too long."""
        self.failure = self._teller.late(self._request_id)

    def take(self) -> list[tuple[int, Prediction]]:
        """(position, prediction) of what may be given to the caller now; makes room."""
        if not self._ordered:
            taken, self._answers = list(self._answers.items()), {}
            return taken
        taken = []
        while self._taken in self._answers:
            taken.append((self._taken, self._answers.pop(self._taken)))
            self._taken += 1
        return taken

    def _refused(self, waiting: _Unanswered, error: classifier_pb2.Error) -> None:
        code = CODES.get(error.code, grpc.StatusCode.UNKNOWN)
        if code in OF_ONE_PICTURE:
            why = f"{waiting.picture.name}: {self._teller.error(code, error.message, self._request_id)}"
            self._answer(waiting.picture, unsent(Unreadable(waiting.picture.position, why)))
            return
        waiting.refusals = waiting.refusals + 1 if waiting.after == self._answered else 1
        waiting.after = self._answered
        pause: float | None = None
        if code in RETRIED_STATUSES and waiting.refusals < ATTEMPTS:
            told = error.HasField("retry_after_ms")
            pause = error.retry_after_ms / 1000 if told else BACKOFF * 2 ** (waiting.refusals - 1)
        else:
            pause = self._patience.pause(code)
        if pause is None:
            raise self._teller.error(code, error.message, self._request_id)
        waiting.due = time.monotonic() + pause
        self._to_send.append(waiting.picture.position)

    def _refuse_size(self, picture: Picture) -> None:
        self._answer(picture, unsent(Unreadable(picture.position, (
            f"{picture.name} has {len(picture.content) / 2**20:.1f} MiB, more than the "
            f"{self._server_bytes / 2**20:g} MiB that the server takes: make it smaller, or raise its "
            "--max-message-mb"))))

    def _answer(self, picture: Picture, answer: Prediction) -> None:
        del self._unanswered[picture.position]
        self._bytes -= picture.size
        self._answers[picture.position] = answer
