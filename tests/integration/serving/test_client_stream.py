"""voc_cls.client: any number of pictures over one call that neither a broken picture nor a restart ends.

Each test is run with Client and with AsyncClient.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.serving.both_clients import Connect
from tests.integration.serving.conftest import Server, Start, jpeg, until
from tests.integration.serving.scripted_server import Refusal, Scripted, serving
from voc_cls.client import AsyncClient, CallError, Client, Prediction, async_client


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """More than are on their way at a time."""
    return [jpeg(seed) for seed in range(70)]


def best(prediction: Prediction) -> tuple[str, ...]:
    return tuple(scored.label for scored in prediction.labels[:5])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_every_picture_is_answered_once_and_says_which_it_was(client: Any, server: Server,
                                                              pictures: list[bytes]) -> None:
    with Client(server.address) as other:
        right = [best(prediction) for prediction in other.classify(pictures)]
    answers = dict(client.classify_stream(pictures))
    assert sorted(answers) == list(range(70))
    assert [best(answers[position]) for position in range(70)] == right
    assert len(set(right)) > 10  # so that mixed-up answers would show
    assert list(client.classify_stream([])) == []


def test_in_order_if_wished(client: Any, pictures: list[bytes]) -> None:
    positions = [position for position, _ in client.classify_stream(pictures, window=8, ordered=True, top_k=1)]
    assert positions == list(range(70))


def test_the_question_goes_with_every_picture(client: Any, pictures: list[bytes]) -> None:
    for _, prediction in client.classify_stream(pictures[:5], top_k=3, version=10, model="tiny"):
        assert len(prediction.labels) == 3


def test_a_picture_that_fails_has_an_error_of_its_own(client: Any, pictures: list[bytes], tmp_path: Path) -> None:
    broken, sources = tmp_path / "broken.jpg", list[Any](pictures)
    broken.write_bytes(b"no picture at all")
    sources[2], sources[40], sources[69] = broken, tmp_path / "none.jpg", bytes(5 * 2**20)  # the server takes 4 MiB
    answers = dict(client.classify_stream(sources))
    assert {position for position, answer in answers.items() if answer.error} == {2, 40, 69}
    assert answers[2].error.startswith(f"{broken} is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture: 17 bytes")
    assert answers[40].error.startswith(f"{tmp_path}/none.jpg does not exist")
    assert answers[69].error.startswith("picture 69 has 5.0 MiB, more than the 4 MiB that the server accepts")
    assert len(answers[68].labels) == 20


def test_no_more_is_read_ahead_than_was_said(to: Connect, pictures: list[bytes]) -> None:
    read = 0

    def counted() -> Iterator[bytes]:
        nonlocal read
        for picture in pictures:
            read += 1
            yield picture

    with serving(Scripted(seconds=0.002)) as address, to(address) as client:
        for taken, _ in enumerate(client.classify_stream(counted(), window=6, ordered=True)):
            time.sleep(0.01)  # a caller slower than the server
            assert read <= taken + 2 * 6 + 1  # those given out together, those on their way, one in the reader's hand
    assert read == 70


def test_answers_come_while_the_source_waits(client: Any, pictures: list[bytes]) -> None:
    answered: queue.Queue[int] = queue.Queue()

    def camera() -> Iterator[bytes]:
        for picture in pictures[:4]:
            yield picture
            answered.get(timeout=20)  # the next one only once this one is answered

    for position, _ in client.classify_stream(camera()):
        answered.put(position)
    assert position == 3


def test_what_a_stopped_server_had_not_answered_is_sent_to_its_successor(to: Connect, start: Start, model: Path,
                                                                        pictures: list[bytes]) -> None:
    port = free_port()
    first, successor = start(model, "--port", port).wait_until_ready(), contextlib.ExitStack()

    def sources() -> Iterator[bytes]:
        yield from pictures[:40]
        first.end(signal.SIGTERM)
        time.sleep(0.5)
        successor.enter_context(serving(Scripted(), port))
        yield from pictures[40:]

    with successor, to(f"127.0.0.1:{port}", wait=100) as client:
        answers = list(client.classify_stream(sources(), ordered=True))
    assert [position for position, _ in answers] == list(range(70))
    servers = [prediction.model for _, prediction in answers]
    assert servers == sorted(servers, reverse=True)
    assert set(servers) == {"tiny", "scripted"}


def test_and_what_a_killed_server_had_not_answered_too(to: Connect, pictures: list[bytes]) -> None:
    port, successor = free_port(), contextlib.ExitStack()
    first = subprocess.Popen([sys.executable, "-m", "tests.integration.serving.scripted_server", str(port)])

    def sources() -> Iterator[bytes]:
        yield from pictures[:40]
        first.kill()
        first.wait()
        successor.enter_context(serving(Scripted(), port))
        yield from pictures[40:]

    with successor, to(f"127.0.0.1:{port}", wait=100) as client:
        assert [position for position, _ in client.classify_stream(sources(), ordered=True)] == list(range(70))


def test_a_loop_that_is_left_ends_the_call_and_its_threads(to: Connect, pictures: list[bytes]) -> None:
    servicer = Scripted(seconds=0.01)
    with serving(servicer) as address, to(address) as client:
        answers = client.classify_stream(itertools.cycle(pictures))
        for _ in itertools.islice(answers, 3):
            pass
        servicer.seconds = 30  # so that the call does not end by itself
        answers.close()
        assert servicer.hung_up.wait(5)
        deadline = time.monotonic() + 5
        while any(thread.name.startswith("voc-") for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_what_the_source_raises_reaches_the_caller(client: Any, pictures: list[bytes]) -> None:
    def sources() -> Iterator[bytes]:
        yield from pictures[:3]
        raise RuntimeError("the camera is unplugged")

    with pytest.raises(RuntimeError, match="the camera is unplugged"):
        list(client.classify_stream(sources()))
    with pytest.raises(TypeError, match="picture 1 is of type str"):
        list(client.classify_stream([pictures[0], "a.jpg"]))


def test_a_wrong_model_ends_the_stream(client: Any, pictures: list[bytes]) -> None:
    with pytest.raises(CallError, match="NOT_FOUND") as error:
        list(client.classify_stream(pictures, model="huge"))
    assert error.value.code is grpc.StatusCode.NOT_FOUND


def test_a_server_that_is_not_there_is_named_soon(to: Connect, pictures: list[bytes]) -> None:
    address, begun = f"127.0.0.1:{free_port()}", time.monotonic()
    with to(address) as client, pytest.raises(CallError, match=f"^no server answers at {address}"):
        list(client.classify_stream(pictures))
    assert time.monotonic() - begun < 15


def test_a_server_that_falls_silent_is_not_waited_for_longer_than_the_timeout(to: Connect,
                                                                              pictures: list[bytes]) -> None:
    with serving(Scripted(seconds=30)) as address:
        begun = time.monotonic()
        with to(address, timeout=1) as client, pytest.raises(CallError, match=r"did not answer within 1 s"):
            list(client.classify_stream(pictures))
        assert time.monotonic() - begun < 5


def test_an_event_loop_may_end_before_a_broken_off_stream_has_left_its_source(
        server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest fails a test where a thread raised an exception."""
    left = threading.Event()

    def slow_to_leave(*source: Any) -> Iterator[Any]:
        try:
            yield from in_thread(*source)
        finally:
            left.wait(10)

    async def one_and_then_nothing() -> AsyncIterator[bytes]:
        yield jpeg(0)
        await asyncio.Event().wait()

    async def take_the_first() -> None:
        async with AsyncClient(server.address) as client:
            async for _ in client.classify_stream(one_and_then_nothing()):
                return

    in_thread = async_client._in_thread
    monkeypatch.setattr(async_client, "_in_thread", slow_to_leave)
    asyncio.run(take_the_first())
    left.set()
    until(lambda: not any(thread.name == "voc-reader" for thread in threading.enumerate()), 5)


def test_a_source_that_takes_longer_than_the_timeout_is_waited_for(to: Connect,
                                                                   pictures: list[bytes]) -> None:
    def slow() -> Iterator[bytes]:
        yield pictures[0]
        time.sleep(1.5)
        yield pictures[1]

    with serving(Scripted()) as address, to(address, timeout=0.5) as client:
        assert len(list(client.classify_stream(slow()))) == 2


def test_a_refused_picture_is_sent_again_when_the_server_says_and_not_for_ever(to: Connect,
                                                                               pictures: list[bytes]) -> None:
    full = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", after_ms=600)
    servicer = Scripted()
    servicer.in_stream = [full, Refusal()]
    with serving(servicer) as address, to(address) as client:
        begun = time.monotonic()
        assert {position for position, _ in client.classify_stream(pictures)} == set(range(70))
        assert time.monotonic() - begun > 0.55
        servicer.in_stream = [Refusal(full.code, full.details, after_ms=1)] * 1000
        with pytest.raises(CallError, match="RESOURCE_EXHAUSTED: the queue is full"):
            list(client.classify_stream(pictures))
    assert len(servicer.calls) == 2


def test_a_model_that_still_loads_is_waited_for_as_long_as_was_said(to: Connect, pictures: list[bytes]) -> None:
    servicer, waits = Scripted(*[Refusal()] * 2), list[float]()
    servicer.in_stream = [Refusal(after_ms=50)] * 12
    with serving(servicer) as address, \
            to(address, wait=20, on_wait=lambda: waits.append(time.monotonic())) as client:
        assert len(list(client.classify_stream(pictures[:2]))) == 2
    assert len(waits) == 1
