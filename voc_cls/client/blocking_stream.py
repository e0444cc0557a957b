"""A stream with threads: one reads the caller's pictures, one talks with the server, the caller's takes the answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc

from voc_cls.client.flight import ENDED_EARLY, Flight
from voc_cls.client.pictures import Source, load
from voc_cls.predictions import Prediction
from voc_cls.v1 import classifier_pb2

Requests = Iterator[classifier_pb2.ClassifyStreamRequest]
FAREWELL = 1
"""Seconds that the server has to end a stream in which everything is answered."""


class Conversation:
    """The threads around a Flight; `open_call` makes a call of requests."""

    def __init__(self, flight: Flight, open_call: Callable[[Requests], Any], sources: Iterable[Source],
                 max_bytes: int) -> None:
        self._flight, self._open_call, self._sources, self._max_bytes = flight, open_call, sources, max_bytes
        self._changed = threading.Condition()
        self._call: Any = None
        self._calls = 0

    def answers(self) -> Iterator[tuple[int, Prediction]]:
        """(position, prediction); ends the threads when it ends."""
        reader, talker = (threading.Thread(target=self._watched, args=(work,), daemon=True, name=f"voc-{name}")
                          for work, name in ((self._read, "reader"), (self._talk, "talker")))
        reader.start()
        talker.start()
        try:
            while taken := self._next():
                yield from taken
            talker.join(FAREWELL)
        finally:
            with self._changed:
                self._flight.closed = True
                self._changed.notify_all()
            if self._call is not None:
                self._call.cancel()
            talker.join()

    def _next(self) -> list[tuple[int, Prediction]]:
        """Some answers, waited for; none when all are given."""
        with self._changed:
            while True:
                if taken := self._flight.take():
                    self._changed.notify_all()
                    return taken
                if self._flight.failure is not None:
                    raise self._flight.failure
                if self._flight.answered:
                    return []
                patience = self._flight.patience
                if patience is not None and patience <= 0:
                    self._flight.late()
                else:
                    self._changed.wait(patience)

    def _watched(self, work: Callable[[], None]) -> None:
        """Runs in a thread; what goes wrong there is raised in the caller's."""
        try:
            work()
        except BaseException as error:
            with self._changed:
                self._flight.failure = self._flight.failure or error
                self._changed.notify_all()

    def _read(self) -> None:
        for position, source in enumerate(self._sources):
            picture = load(position, source, self._max_bytes)
            with self._changed:
                self._changed.wait_for(lambda: self._flight.room or self._flight.closed)
                if self._flight.closed:
                    return
                self._flight.add(picture)
                self._changed.notify_all()
        with self._changed:
            self._flight.ended = True
            self._changed.notify_all()

    def _talk(self) -> None:
        """One call after the other, until everything is answered."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._flight.over or self._flight.pause is not None)
                if self._flight.over:
                    return
                self._call = self._open_call(self._requests(self._calls))
            ended = self._receive()
            with self._changed:
                self._calls += 1
                self._changed.notify_all()
                if not self._flight.over:
                    self._changed.wait_for(lambda: self._flight.closed, self._flight.lost(*ended))

    def _receive(self) -> tuple[grpc.StatusCode, str]:
        """Takes all answers of the call; how it ended."""
        try:
            for response in self._call:
                with self._changed:
                    self._flight.receive(response)
                    self._changed.notify_all()
        except grpc.RpcError:
            return self._call.code(), self._call.details() or ""
        return ENDED_EARLY

    def _requests(self, call: int) -> Requests:
        """What gRPC sends, from a thread of its own, as fast as the server takes it."""
        while True:
            with self._changed:
                if self._flight.over or call != self._calls:
                    return
                request = self._flight.request()
                self._changed.notify_all()
                if request is None:
                    self._changed.wait(self._flight.pause)
                    continue
            yield request
