"""A stream: how many pictures it holds, which are sent again and when, and what ends it. No server, no threads."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import grpc
import pytest

from voc_cls.client.errors import ATTEMPTS, CallError, Retries
from voc_cls.client.stream_state import ENDED_EARLY, StreamState
from voc_cls.client.types import ClassifyOptions, Image, failed
from voc_cls.prediction import Prediction
from voc_cls.v1 import classifier_pb2

MIB = 2**20
UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "connection refused")


def new_stream(*images: Image | Prediction, window: int = 4, ordered: bool = False, wait: float = 0,
               timeout: float = 60) -> StreamState:
    retries = Retries("box:1", timeout, 8 * MIB, False, "r1", wait, lambda: None)
    stream = StreamState(ClassifyOptions(top_k=2), window=window, ordered=ordered, retries=retries)
    for position, image in enumerate(images):
        stream.add(position, image)
    return stream


def image(position: int, size: int = 10) -> Image:
    return Image(position, f"{position}.jpg", bytes(size))


def sent(stream: StreamState) -> list[int]:
    """Positions of all that may be sent now."""
    positions = []
    while (request := stream.next_request()) is not None:
        assert (len(request.request.pictures), request.request.top_k) == (1, 2)
        positions.append(request.id)
    return positions


def taken(stream: StreamState) -> list[tuple[int, Prediction]]:
    return stream.take() or []


def answer(stream: StreamState, positions: Iterable[int]) -> None:
    for position in positions:
        stream.receive(classifier_pb2.ClassifyStreamResponse(id=position, response=classifier_pb2.ClassifyResponse(
            model="tiny", version=3, classifications=[classifier_pb2.Classification()])))


def refuse(stream: StreamState, position: int, code: grpc.StatusCode, after_ms: int | None = None) -> None:
    stream.receive(classifier_pb2.ClassifyStreamResponse(id=position, error=classifier_pb2.Error(
        code=code.value[0], message="no", retry_after_ms=after_ms)))


def test_there_is_room_until_the_window_is_full_and_again_when_predictions_are_taken() -> None:
    stream = new_stream(image(0), window=2)
    assert stream.has_room
    stream.add(1, image(1))
    assert not stream.has_room
    assert sent(stream) == [0, 1]
    answer(stream, [1])
    assert not stream.has_room  # answered, but still held
    assert [(position, prediction.version) for position, prediction in taken(stream)] == [(1, 3)]
    assert stream.has_room


def test_large_pictures_fill_it_before_their_number_does() -> None:
    stream = new_stream(image(0, 4 * MIB), window=100)
    assert stream.has_room
    stream.add(1, image(1, 4 * MIB))
    assert not stream.has_room


def test_an_ordered_stream_holds_a_prediction_back_until_those_before_it() -> None:
    stream = new_stream(image(0), image(1), failed("2.jpg does not exist"), ordered=True)
    sent(stream)
    answer(stream, [1])
    assert stream.take() is None
    answer(stream, [0])
    assert [(position, prediction.error) for position, prediction in taken(stream)] == [
        (0, None), (1, None), (2, "2.jpg does not exist")]


def test_a_refused_picture_is_sent_again_after_the_pause_that_the_server_gives() -> None:
    stream = new_stream(image(0))
    sent(stream)
    refuse(stream, 0, grpc.StatusCode.RESOURCE_EXHAUSTED, after_ms=50)
    assert sent(stream) == []
    assert 0 < (stream.send_delay or 0) <= 0.05
    time.sleep(0.06)
    assert sent(stream) == [0]
    for _ in range(ATTEMPTS - 2):
        refuse(stream, 0, grpc.StatusCode.RESOURCE_EXHAUSTED, after_ms=0)
        assert sent(stream) == [0]
    with pytest.raises(CallError, match="RESOURCE_EXHAUSTED: no"):
        refuse(stream, 0, grpc.StatusCode.RESOURCE_EXHAUSTED, after_ms=0)


def test_refusals_do_not_end_a_stream_in_which_other_pictures_are_answered() -> None:
    stream = new_stream(*map(image, range(20)), window=20)
    for position in range(1, 20):
        assert 0 in sent(stream)
        refuse(stream, 0, grpc.StatusCode.RESOURCE_EXHAUSTED, after_ms=0)
        answer(stream, [position])


def test_the_pause_doubles_where_the_server_gives_none() -> None:
    stream = new_stream(image(0))
    for pause in (0.2, 0.4):
        assert sent(stream) == [0]
        refuse(stream, 0, grpc.StatusCode.UNAVAILABLE)
        assert pause / 2 < (stream.send_delay or 0) <= pause
        time.sleep(pause)


def test_a_failure_of_the_server_fails_one_picture_and_a_refusal_of_the_call_ends_the_stream() -> None:
    stream = new_stream(image(0), image(1))
    sent(stream)
    refuse(stream, 0, grpc.StatusCode.INTERNAL)
    ((position, prediction),) = taken(stream)
    assert position == 0
    assert prediction.error == "0.jpg: the server at box:1 failed (no): its log has this call under the request id r1"
    with pytest.raises(CallError, match="NOT_FOUND"):
        refuse(stream, 1, grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize("status", [ENDED_EARLY, UNAVAILABLE, (grpc.StatusCode.CANCELLED, "by HAProxy")])
def test_a_call_that_breaks_after_answers_is_repeated_at_once_with_the_unanswered_pictures(status: Any) -> None:
    stream = new_stream(image(0), image(1), image(2))
    sent(stream)
    answer(stream, [1])
    assert stream.call_ended(*status) == 0
    assert sent(stream) == [0, 2]
    answer(stream, [0, 2, 0])  # an answer that comes twice counts once
    stream.complete = True
    assert stream.finished
    assert sorted(position for position, _ in taken(stream)) == [0, 1, 2]
    assert stream.take() == []


def test_a_call_that_breaks_without_an_answer_is_repeated_only_for_the_waiting_time() -> None:
    stream = new_stream(image(0), wait=0.1)
    assert stream.call_ended(*UNAVAILABLE) == 0.5
    time.sleep(0.11)
    with pytest.raises(CallError, match="no server answers at box:1"):
        stream.call_ended(*UNAVAILABLE)
    with pytest.raises(CallError, match="PERMISSION_DENIED"):
        new_stream(wait=60).call_ended(grpc.StatusCode.PERMISSION_DENIED, "not for you")


def test_every_answer_restarts_the_waiting_time() -> None:
    stream = new_stream(image(0), image(1), wait=0.1)
    sent(stream)
    time.sleep(0.11)
    answer(stream, [0])
    assert stream.call_ended(*UNAVAILABLE) == 0
    assert stream.call_ended(*UNAVAILABLE) == 0.5


def test_a_picture_above_the_servers_limit_fails_alone_once_the_limit_is_known() -> None:
    stream = new_stream(image(0, 5 * MIB), image(1))
    sent(stream)
    details = "SERVER: Received message larger than max (5242900 vs. 4194304)"
    assert stream.call_ended(grpc.StatusCode.RESOURCE_EXHAUSTED, details) == 0
    assert sent(stream) == [1]
    ((position, prediction),) = taken(stream)
    assert (position, prediction.labels) == (0, ())
    assert prediction.error == ("0.jpg has 5.0 MiB, more than the 4 MiB that the server accepts: make it smaller, or "
                                "raise the server's `max_message_mb`")
    with pytest.raises(CallError, match="rejects messages of this size"):  # known already: it would not end
        stream.call_ended(grpc.StatusCode.RESOURCE_EXHAUSTED, details)


def test_silence_ends_a_stream_only_while_an_answer_is_due() -> None:
    stream = new_stream(timeout=0.1)
    assert stream.time_left is None
    time.sleep(0.15)
    stream.add(0, image(0))
    assert 0 < (stream.time_left or 0) <= 0.1
    assert stream.take() is None
    time.sleep(0.11)
    with pytest.raises(CallError, match=r"did not answer within 0\.1 s") as error:
        stream.take()
    assert error.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert stream.finished
