"""Attacks on the decoders of a real server: each ends for its caller alone, and nothing of them outlives the server."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from tests import attacks
from tests.integration.serving.conftest import Server, Start, jpeg, picture, until
from tests.integration.serving.tiny_model import LABELS
from tests.pictures import encoded, lying, smooth
from voc_cls.v1 import classifier_pb2

LIMIT = 1.0
"""Seconds that an image may take on the server of these tests."""


@pytest.fixture(scope="module")
def limited(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    starter = Start(tmp_path_factory.mktemp("decoding"))
    yield starter(model, "--threads", 2, "--decode-seconds", LIMIT, "--queue-size", 200).wait_until_ready()
    starter.end_all()


def ask(stub: Any, content: bytes, timeout: float = 20) -> classifier_pb2.Classification:
    request = classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=content)])
    return stub.Classify(request, timeout=timeout).classifications[0]


def decoders(server: Server) -> dict[int, list[int]]:
    """The process that forks decoders → those; the newest."""
    template = int(server.output.with_suffix(".decoders").read_text().split()[-1])
    children = Path(f"/proc/{template}/task/{template}/children")
    return {template: list(map(int, children.read_text().split())) if children.exists() else []}


def all_three(server: Server) -> list[int]:
    """The decoders, once none is missing."""
    until(lambda: len(*decoders(server).values()) == 3, 5)
    return sorted(*decoders(server).values())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class GoodCaller(threading.Thread):
    """Sends small pictures one after the other and notes how long each takes."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._stub, self._ended, self.seconds = server.classifier(), threading.Event(), []
        ask(self._stub, jpeg(0))

    def run(self) -> None:
        while not self._ended.is_set():
            begin = time.monotonic()
            assert len(ask(self._stub, jpeg(0), 5).labels) == len(LABELS)
            self.seconds.append(time.monotonic() - begin)

    def __enter__(self) -> GoodCaller:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def percentile(self, share: float) -> float:
        return float(np.quantile(self.seconds, share))


def test_answers_are_those_of_the_saved_model(limited: Server, saved_model: Any) -> None:
    stub = limited.classifier()
    for content in (jpeg(3), encoded(smooth(300, 400), "JPEG", progressive=True), encoded(smooth(700, 900), "PNG"),
                    encoded(picture(1), "GIF"), encoded(picture(1), "BMP")):
        expected = saved_model.signatures["serving_default"](image_bytes=tf.constant([content]))["probabilities"][0]
        given = {scored.label: scored.probability for scored in ask(stub, content).labels}
        np.testing.assert_allclose([given[label] for label in LABELS], expected, atol=1e-4)


def test_a_picture_on_its_side_is_answered_as_the_upright_one(limited: Server) -> None:
    stub, upright = limited.classifier(), smooth(40, 60)
    expected = {scored.label: scored.probability for scored in ask(stub, encoded(upright, "PNG")).labels}
    for orientation in (3, 6, 8):
        given = {scored.label: scored.probability for scored in ask(stub, lying(upright, "PNG", orientation)).labels}
        assert given == pytest.approx(expected, abs=1e-4)


def test_every_attack_is_refused_at_once_and_good_callers_do_not_notice(limited: Server) -> None:
    stub = limited.classifier()
    files = {name: (make(), reason) for name, (make, reason) in attacks.REFUSED.items()}
    with GoodCaller(limited) as good:
        for name, (content, reason) in files.items():
            error = ask(stub, content).error
            assert error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0], name
            assert reason in error.message, name  # a rule's, not that of `decode_seconds`
            assert error.message.startswith("pictures[0] is "), name
        for name, make in attacks.HARMLESS.items():
            assert len(ask(stub, make()).labels) == len(LABELS), name
    assert good.percentile(0.99) < 0.5
    assert all(line[:4].isdigit() for line in limited.errors.read_text().splitlines())  # no words of libjpeg's


def test_what_takes_longer_than_decode_seconds_ends_for_its_caller_alone(limited: Server) -> None:
    content, stub = attacks.costly(), limited.classifier()
    with GoodCaller(limited) as good:
        begin = time.monotonic()
        error = ask(stub, content).error
        seconds = time.monotonic() - begin
    assert error.message == (f"pictures[0] is a picture of {len(content)} bytes that takes longer than {LIMIT:g} s to "
                             "decode (`decode_seconds`)")
    assert LIMIT < seconds < LIMIT + 1  # with what it took to find that it is much work
    assert len(good.seconds) > 5
    assert good.percentile(0.99) < LIMIT


def test_a_deadline_ends_the_decoding_too(limited: Server) -> None:
    content, stub = attacks.costly(), limited.classifier()
    before = limited.metric("voc_serve_pictures_dropped_total", model="tiny", reason="expired")
    workers = all_three(limited)
    with pytest.raises(grpc.RpcError) as error:
        ask(stub, content, timeout=LIMIT / 2)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: set(workers) != set(*decoders(limited).values()), 5)  # the one that decoded it is gone
    assert limited.metric("voc_serve_pictures_dropped_total", model="tiny", reason="expired") == before + 1
    assert limited.metric("voc_serve_calls_in_flight", entrypoint="GRPC") == 0


def test_a_caller_who_has_gone_costs_a_tenth_of_a_second_and_a_small_picture_no_decoder(limited: Server) -> None:
    stub = limited.classifier()
    before = all_three(limited)
    request = classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=jpeg(0))] * 50)
    for _ in range(5):
        stub.Classify.future(request, timeout=20).cancel()
    assert len(ask(stub, jpeg(0)).labels) == len(LABELS)
    assert all_three(limited) == before
    large = classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=attacks.costly())])
    call = stub.Classify.future(large, timeout=20)
    until(lambda: limited.metric("voc_serve_pictures_in_server") == 1, 5)
    time.sleep(0.1)
    call.cancel()
    until(lambda: limited.metric("voc_serve_pictures_in_server") == 0, 5)
    until(lambda: all_three(limited) != before, 5)


def test_a_decoder_that_crashes_or_stops_costs_one_answer_and_is_replaced(limited: Server) -> None:
    stub = limited.classifier()
    for number in (signal.SIGSTOP, signal.SIGSEGV):
        for worker in all_three(limited):
            os.kill(worker, number)
        errors = [ask(stub, jpeg(0)).error.message for _ in range(4)]
        assert all(error.endswith(("(`decode_seconds`)", "ends its decoder")) for error in errors if error)
        assert len(ask(stub, jpeg(0)).labels) == len(LABELS)


def test_the_process_that_starts_decoders_is_replaced_with_them(limited: Server) -> None:
    ((template, workers),) = decoders(limited).items()
    os.kill(template, signal.SIGKILL)
    until(lambda: not any(map(alive, workers)), 5)  # they end with it
    assert len(ask(limited.classifier(), jpeg(0)).labels) == len(LABELS)
    assert template not in decoders(limited)
    assert limited.health() == "SERVING"


def test_decoders_ignore_the_signals_of_their_group_and_end_with_the_server(model: Path, start: Start) -> None:
    server = start(model, "--threads", 1, "--grace-seconds", 1).wait_until_ready()
    ((template, workers),) = decoders(server).items()
    assert len(workers) == 3
    for pid in (template, *workers):
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
    assert len(ask(server.classifier(), jpeg(0)).labels) == len(LABELS)
    assert {template: workers} == decoders(server)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)  # as stuck as can be
    stuck = server.classifier().Classify.future(
        classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=jpeg(0))]), timeout=60)
    until(lambda: server.metric("voc_serve_pictures_in_server") == 1, 5)
    begin = time.monotonic()
    assert server.end(signal.SIGTERM) == 1
    assert time.monotonic() - begin < 4
    assert stuck.code() is not grpc.StatusCode.OK
    until(lambda: not any(map(alive, (template, *workers))), 2)


def test_no_decoder_outlives_a_server_that_is_killed(model: Path, start: Start) -> None:
    server = start(model, "--threads", 1).wait_until_ready()
    ((template, workers),) = decoders(server).items()
    large = classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=attacks.costly())])
    call = server.classifier().Classify.future(large, timeout=60)
    until(lambda: server.metric("voc_serve_pictures_in_server") == 1, 5)
    server.end(signal.SIGKILL)
    assert call.code() is grpc.StatusCode.UNAVAILABLE
    until(lambda: not any(map(alive, (template, *workers))), 2)
