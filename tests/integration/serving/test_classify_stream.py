"""voc_cls.v1.Classifier/ClassifyStream: many pictures over one call, none of which waits for the whole."""

from __future__ import annotations

import contextlib
import itertools
import queue
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.serving.both_clients import Connect
from tests.integration.serving.conftest import Server, Start, jpeg, until
from tests.integration.serving.tiny_model import LABELS, export_tiny_model
from voc_cls.v1 import classifier_pb2

SECONDS = 0.2
"""How long each batch of the slow model takes."""
MAX_BATCH, QUEUE = 2, 4
IDLE_SECONDS = 1


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "slow"
    export_tiny_model(folder / "1", seconds=SECONDS)
    return folder


@pytest.fixture(scope="module")
def slow(slow_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes 2 pictures at a time and 4 in all, so that one stream can fill it."""
    starter = Start(tmp_path_factory.mktemp("slow"))
    yield starter(slow_model, "--max-batch-size", MAX_BATCH, "--queue-size", QUEUE, "--stream-idle-seconds",
                  IDLE_SECONDS).wait_until_ready()
    starter.end_all()


def asked(number: int, *contents: bytes, **fields: Any) -> classifier_pb2.ClassifyStreamRequest:
    return classifier_pb2.ClassifyStreamRequest(id=number, request=classifier_pb2.ClassifyRequest(
        pictures=[classifier_pb2.Picture(content=content) for content in contents], **fields))


class Sent:
    """Requests for a stream, which note how many of them gRPC has taken; the last `close`s the caller's side."""

    def __init__(self) -> None:
        self.taken = 0
        self._requests: queue.Queue[Any] = queue.Queue()

    def put(self, request: Any) -> None:
        self._requests.put(request)

    def close(self) -> None:
        self._requests.put(None)

    def __iter__(self) -> Iterator[Any]:
        while (request := self._requests.get()) is not None:
            self.taken += 1
            yield request


def read(answers: Any) -> list[Any]:
    """What comes before the stream ends, in whatever way."""
    found = []
    with contextlib.suppress(grpc.RpcError):
        for answer in answers:
            found.append(answer)
    return found


def test_every_request_is_answered_once_and_carries_its_number_back(slow: Server) -> None:
    requests = [asked(100 + number, jpeg(number), top_k=number + 1) for number in range(6)]
    answers = {answer.id: answer.response
               for answer in slow.classifier().ClassifyStream(iter(requests), timeout=30)}
    assert sorted(answers) == [request.id for request in requests]
    for number, request in enumerate(requests):
        answer = answers[request.id]
        assert (answer.model, answer.version) == ("slow", 1)
        assert [len(classification.labels) for classification in answer.classifications] == [number + 1]
        alone = slow.classifier().Classify(request.request, timeout=10)
        assert [label.label for label in alone.classifications[0].labels] == [
            label.label for label in answer.classifications[0].labels]


def test_a_stream_without_requests_ends(slow: Server) -> None:
    assert list(slow.classifier().ClassifyStream(iter(()), timeout=10)) == []


def test_an_answer_does_not_wait_for_the_callers_next_request(slow: Server) -> None:
    sent = Sent()
    answers = slow.classifier().ClassifyStream(iter(sent), timeout=30)
    for number in range(3):
        sent.put(asked(number, jpeg(number)))
        assert next(answers).id == number
    sent.close()
    assert list(answers) == []


def test_what_is_ready_first_is_answered_first(slow: Server) -> None:
    answers = slow.classifier().ClassifyStream(iter([asked(1, jpeg(1)), asked(2)]), timeout=30)
    assert [answer.id for answer in answers] == [2, 1]  # the second has no pictures, so nothing to compute


@pytest.mark.parametrize(("fields", "code", "message"), [
    ({"model": "fast"}, grpc.StatusCode.NOT_FOUND, "no model 'fast'; this server has 'slow'"),
    ({"version": 7}, grpc.StatusCode.NOT_FOUND, "model 'slow' has no version 7"),
    ({"threshold": float("nan")}, grpc.StatusCode.INVALID_ARGUMENT, "threshold nan is not a probability"),
])
def test_a_refused_request_is_answered_with_its_error_and_the_stream_goes_on(
        slow: Server, fields: dict[str, Any], code: grpc.StatusCode, message: str) -> None:
    requests = [asked(1, jpeg(1), **fields), asked(2), asked(3, *[jpeg(0)] * (QUEUE + 1)), asked(4, jpeg(4))]
    answers = {answer.id: answer for answer in slow.classifier().ClassifyStream(iter(requests), timeout=30)}
    assert (answers[1].error.code, answers[1].error.message[:len(message)]) == (code.value[0], message)
    assert answers[2].error.message == "pictures is empty: send at least one"
    assert answers[3].error.message.startswith("one call may bring up to 4 pictures (`queue_size`), this one has 5")
    assert len(answers[4].response.classifications[0].labels) == len(LABELS)


def test_a_broken_picture_fails_alone(slow: Server) -> None:
    answer, = slow.classifier().ClassifyStream(iter([asked(1, b"broken", jpeg(1))]), timeout=30)
    first, second = answer.response.classifications
    assert first.error.message.startswith("pictures[0] is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture")
    assert len(second.labels) == len(LABELS)


def test_a_full_server_slows_streams_down_instead_of_refusing_them(slow: Server) -> None:
    """Three streams want 12 places of 4; a call of its own is refused meanwhile."""
    finished: list[list[Any]] = []

    def stream() -> None:
        requests = (asked(number, jpeg(number), top_k=1) for number in range(8))
        finished.append(list(slow.classifier().ClassifyStream(requests, timeout=60)))

    threads = [threading.Thread(target=stream) for _ in range(3)]
    for thread in threads:
        thread.start()
    call, stub = asked(0, *[jpeg(0)] * QUEUE).request, slow.classifier()
    until(lambda: stub.Classify.future(call, timeout=10).code() is grpc.StatusCode.RESOURCE_EXHAUSTED)
    for thread in threads:
        thread.join()
    assert len(finished) == 3
    for answers in finished:
        assert sorted(answer.id for answer in answers) == list(range(8))
        assert all(answer.WhichOneof("outcome") == "response" for answer in answers), answers


def test_a_caller_that_writes_too_fast_is_held_back(slow: Server) -> None:
    """32 MB of pictures at 10 a second; gRPC's own windows hold some 5 MB of them."""
    sent, content = Sent(), jpeg(0) + bytes(80_000)  # what follows the end of a JPEG is not read
    total = 400
    for number in range(total):
        sent.put(asked(number, content, top_k=1))
    sent.close()
    answers = slow.classifier().ClassifyStream(iter(sent), timeout=60)
    first = list(itertools.islice(answers, 4))
    assert len(first) == 4
    time.sleep(1)
    assert sent.taken < total / 2
    answers.cancel()


def test_what_a_caller_does_not_read_is_not_computed(slow_model: Path, start: Start) -> None:
    server = start(slow_model, "--max-batch-size", MAX_BATCH, "--queue-size", QUEUE).wait_until_ready()
    sent = Sent()
    answers = server.classifier().ClassifyStream(iter(sent), timeout=60)
    for number in range(QUEUE):
        sent.put(asked(number, *[jpeg(number)] * MAX_BATCH))
    next(answers)
    answers.cancel()
    time.sleep(0.1)
    assert len(server.classifier().Classify(asked(0, jpeg(0)).request, timeout=10).classifications) == 1
    assert server.end() == 0
    computed = int(server.output.read_text().rpartition("version 1: ")[2].split(" pictures")[0])
    assert computed <= 2 * MAX_BATCH + 1  # what had been answered or was in the engine, and the call after it


def test_a_deadline_ends_a_stream(slow: Server) -> None:
    answers = slow.classifier().ClassifyStream((asked(number, jpeg(0)) for number in range(100)), timeout=1)
    assert 0 < len(read(answers)) < 20
    assert answers.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_server_that_stops_answers_what_it_has_read(slow_model: Path, start: Start) -> None:
    server = start(slow_model, "--max-batch-size", MAX_BATCH, "--queue-size", QUEUE).wait_until_ready()
    sent = Sent()
    answers = server.classifier().ClassifyStream(iter(sent), timeout=60)
    for number in range(3):
        sent.put(asked(number, jpeg(number)))
    ids = [next(answers).id]
    time.sleep(0.05)
    server.process.send_signal(signal.SIGTERM)
    ids += [answer.id for answer in read(answers)]
    assert sorted(ids) == [0, 1, 2]
    assert answers.code() is grpc.StatusCode.UNAVAILABLE
    assert answers.details() == "the server is stopping: send again, to another one, what has no answer"
    assert server.process.wait(20) == 0
    sent.close()


def test_an_idle_stream_ends_with_unavailable_but_not_while_the_server_has_something_to_do(slow: Server) -> None:
    sent = Sent()
    answers = slow.classifier().ClassifyStream(iter(sent), timeout=30)
    for number in range(7):  # more than a second of work
        sent.put(asked(number, jpeg(number), jpeg(number)))
    assert sorted(next(answers).id for _ in range(7)) == list(range(7))
    begin = time.monotonic()
    with pytest.raises(grpc.RpcError) as raised:
        next(answers)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert raised.value.details().startswith("the stream was idle for 1 s (`stream_idle_seconds`)")
    assert time.monotonic() - begin > IDLE_SECONDS / 2
    sent.close()


def test_a_client_opens_another_stream_when_its_camera_wakes_up(slow: Server, to: Connect) -> None:
    def camera() -> Iterator[bytes]:
        yield jpeg(0)
        time.sleep(1.5 * IDLE_SECONDS)
        yield jpeg(1)

    with to(slow.address) as client:
        assert [position for position, _ in client.classify_stream(camera())] == [0, 1]
