"""The pictures on their way: how many, which are sent again and when, and what ends a stream. No server, no threads."""

from __future__ import annotations

import time
from collections.abc import Iterable

import grpc
import pytest

from voc_cls.client.failures import CallError, Patience, Teller
from voc_cls.client.flight import ATTEMPTS, ENDED_EARLY, Flight
from voc_cls.client.pictures import Picture, Unreadable
from voc_cls.client.questions import Question
from voc_cls.v1 import classifier_pb2

MIB = 2**20
UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "connection refused")


def flight(window: int = 4, *, ordered: bool = False, wait: float = 0, timeout: float = 60) -> Flight:
    return Flight(Question(top_k=2), window=window, ordered=ordered, max_bytes=8 * MIB,
                  teller=Teller("box:1", timeout, 8 * MIB, False), patience=Patience(wait, lambda: None),
                  request_id="r1")


def picture(position: int, size: int = 10) -> Picture:
    return Picture(position, f"{position}.jpg", bytes(size))


def sent(flight: Flight) -> list[int]:
    """Positions of all that may be sent now."""
    found = []
    while (request := flight.request()) is not None:
        assert (len(request.request.pictures), request.request.top_k) == (1, 2)
        found.append(request.id)
    return found


def answer(flight: Flight, positions: Iterable[int]) -> None:
    for position in positions:
        flight.receive(classifier_pb2.ClassifyStreamResponse(id=position, response=classifier_pb2.ClassifyResponse(
            model="tiny", version=3, classifications=[classifier_pb2.Classification()])))


def refuse(flight: Flight, position: int, code: grpc.StatusCode, after_ms: int | None = None) -> None:
    flight.receive(classifier_pb2.ClassifyStreamResponse(id=position, error=classifier_pb2.Error(
        code=code.value[0], message="no", retry_after_ms=after_ms)))


def test_there_is_room_until_the_window_is_full_and_again_when_answers_are_taken() -> None:
    pictures = flight(window=2)
    pictures.add(picture(0))
    assert pictures.room
    pictures.add(picture(1))
    assert not pictures.room
    assert sent(pictures) == [0, 1]
    answer(pictures, [1])
    assert not pictures.room  # answered, but still held
    assert [(position, one.version) for position, one in pictures.take()] == [(1, 3)]
    assert pictures.room


def test_large_pictures_fill_it_before_their_number_does() -> None:
    pictures = flight(window=100)
    for position in range(2):
        assert pictures.room
        pictures.add(picture(position, 4 * MIB))
    assert not pictures.room


def test_in_order_an_answer_waits_for_those_before_it() -> None:
    pictures = flight(ordered=True)
    for position in (0, 1):
        pictures.add(picture(position))
    pictures.add(Unreadable(2, "2.jpg is not there"))
    sent(pictures)
    answer(pictures, [1])
    assert pictures.take() == []
    answer(pictures, [0])
    assert [(position, one.error) for position, one in pictures.take()] == [
        (0, None), (1, None), (2, "2.jpg is not there")]


def test_a_refused_picture_is_sent_again_after_the_pause_that_was_told() -> None:
    pictures = flight()
    pictures.add(picture(0))
    sent(pictures)
    refuse(pictures, 0, grpc.StatusCode.RESOURCE_EXHAUSTED, after_ms=50)
    assert sent(pictures) == []
    assert pictures.pause == pytest.approx(0.05, abs=0.02)
    time.sleep(0.06)
    assert sent(pictures) == [0]
    for _ in range(ATTEMPTS - 2):
        refuse(pictures, 0, grpc.StatusCode.RESOURCE_EXHAUSTED, after_ms=0)
        assert sent(pictures) == [0]
    with pytest.raises(CallError, match="RESOURCE_EXHAUSTED: no"):
        refuse(pictures, 0, grpc.StatusCode.RESOURCE_EXHAUSTED, after_ms=0)


def test_refusals_do_not_end_a_stream_in_which_others_are_answered() -> None:
    pictures = flight(window=20)
    for position in range(20):
        pictures.add(picture(position))
    for position in range(1, 20):
        assert 0 in sent(pictures)
        refuse(pictures, 0, grpc.StatusCode.RESOURCE_EXHAUSTED, after_ms=0)
        answer(pictures, [position])


def test_where_nothing_is_told_the_pause_doubles() -> None:
    pictures = flight()
    pictures.add(picture(0))
    for pause in (0.2, 0.4):
        assert sent(pictures) == [0]
        refuse(pictures, 0, grpc.StatusCode.UNAVAILABLE)
        assert pictures.pause == pytest.approx(pause, abs=0.02)
        time.sleep(pause)


def test_a_refusal_that_would_meet_all_pictures_ends_the_stream_and_one_of_the_server_itself_only_the_picture() -> None:
    pictures = flight()
    for position in (0, 1):
        pictures.add(picture(position))
    sent(pictures)
    refuse(pictures, 0, grpc.StatusCode.INTERNAL)
    ((position, prediction),) = pictures.take()
    assert position == 0
    assert prediction.error is not None
    assert prediction.error == "0.jpg: the server at box:1 failed (no): its log has this call under the request id r1"
    with pytest.raises(CallError, match="NOT_FOUND"):
        refuse(pictures, 1, grpc.StatusCode.NOT_FOUND)


def test_a_call_that_breaks_after_answers_is_made_again_at_once_with_what_was_unanswered() -> None:
    pictures = flight()
    for position in range(3):
        pictures.add(picture(position))
    sent(pictures)
    answer(pictures, [1])
    assert pictures.lost(*ENDED_EARLY) == 0
    assert sent(pictures) == [0, 2]
    answer(pictures, [0, 2, 0])  # an answer that comes twice counts once
    pictures.ended = True
    assert pictures.answered
    assert sorted(position for position, _ in pictures.take()) == [0, 1, 2]


def test_one_that_breaks_without_an_answer_only_while_there_is_patience() -> None:
    pictures = flight(wait=0.1)
    pictures.add(picture(0))
    assert pictures.lost(*UNAVAILABLE) == 0.5
    time.sleep(0.11)
    with pytest.raises(CallError, match="no server answers at box:1"):
        pictures.lost(*UNAVAILABLE)
    with pytest.raises(CallError, match="PERMISSION_DENIED"):
        flight(wait=60).lost(grpc.StatusCode.PERMISSION_DENIED, "not for you")


def test_a_picture_above_the_servers_limit_fails_alone_once_the_limit_is_known() -> None:
    pictures = flight()
    pictures.add(picture(0, 5 * MIB))
    pictures.add(picture(1))
    sent(pictures)
    told = "SERVER: Received message larger than max (5242900 vs. 4194304)"
    assert pictures.lost(grpc.StatusCode.RESOURCE_EXHAUSTED, told) == 0
    assert sent(pictures) == [1]
    ((position, prediction),) = pictures.take()
    assert (position, prediction.labels) == (0, ())
    assert prediction.error is not None
    assert prediction.error.startswith("0.jpg has 5.0 MiB, more than the 4 MiB that the server takes")
    with pytest.raises(CallError, match="takes no messages of this size"):  # known already: it would not end
        pictures.lost(grpc.StatusCode.RESOURCE_EXHAUSTED, told)


def test_silence_is_too_long_only_while_something_is_asked() -> None:
    pictures = flight(timeout=0.1)
    assert pictures.patience is None
    time.sleep(0.15)
    pictures.add(picture(0))
    assert pictures.patience == pytest.approx(0.1, abs=0.02)
    time.sleep(0.11)
    assert (pictures.patience or 0) < 0
    pictures.late()
    assert isinstance(pictures.failure, CallError)
    assert pictures.failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
