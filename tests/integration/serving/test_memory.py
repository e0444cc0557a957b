"""No client takes all places or all memory: idle streams, calls without a message, bodies without an end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.bombardment import condition
from tests.integration.serving.conftest import Server, until
from tests.integration.serving.http2_by_hand import connected
from tests.integration.serving.test_bad_clients import QUICKLY, assert_answers, running
from tests.network_attacks import CLASSIFY, PREFACE, STREAM, WATCH, Body, headers, message, settings

STREAMS = 100
"""The default of `client_streams`."""
SIZE = 4 * 2**20 - 1000
"""Almost the largest message that the server takes; its memory for requests is eight times as much, 32 MiB."""
BUDGET = 32 * 2**20


@pytest.fixture(autouse=True)
def leaves_nothing(server: Server) -> Iterator[None]:
    yield
    until(lambda: running(server) == 0, 20)


def test_idle_streams_hold_no_place_and_one_client_may_have_a_hundred(server: Server) -> None:
    with contextlib.ExitStack() as clients:
        opened = [clients.enter_context(connected(server.address, PREFACE, settings(), headers(STREAM)))
                  for _ in range(STREAMS + 5)]
        until(lambda: server.metric("voc_serve_calls_shed_total", model="", reason="streams") >= 5, QUICKLY)
        assert running(server) == STREAMS
        assert_answers(server)
        refused = [connection for connection in opened if b"client_streams" in _received(connection)]
        assert len(refused) == 5


def test_calls_and_watches_of_health_that_say_nothing_hold_no_place(server: Server) -> None:
    with contextlib.ExitStack() as clients:
        calls = [headers(CLASSIFY, stream) for stream in range(1, 200, 2)]
        for _ in range(10):
            clients.enter_context(connected(server.address, PREFACE, settings(), *calls))
        for _ in range(200):
            clients.enter_context(connected(server.address, PREFACE, settings(), headers(WATCH), message(b"")))
        until(lambda: running(server) == 1_000, 2 * QUICKLY)  # as many as `max_calls`
        assert_answers(server)


@pytest.mark.parametrize("kind", ["messages", "streams", "bodies"])
def test_what_does_not_arrive_in_full_takes_no_more_memory_than_there_is_for_it(server: Server, kind: str) -> None:
    assert_answers(server)
    before = condition(server.process.pid).memory
    with contextlib.ExitStack() as clients:
        def send(number: int) -> None:
            source = f"127.0.0.{2 + number % 5}"
            if kind == "bodies":
                host, _, port = server.http.removeprefix("http://").rpartition(":")
                connection = clients.enter_context(socket.create_connection((host, int(port)), 10, (source, 0)))
                with contextlib.suppress(OSError):
                    connection.sendall(b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: a\r\n"
                                       b"Content-Length: %d\r\n\r\n" % (SIZE + 99) + b" " * SIZE)
            else:
                host, _, port = server.address.rpartition(":")
                body = Body((host, int(port)), CLASSIFY if kind == "messages" else STREAM, source, SIZE)
                clients.enter_context(body.connection)
                body.send(SIZE)

        senders = [threading.Thread(target=send, args=(number,)) for number in range(40)]  # 160 MB
        for sender in senders:
            sender.start()
        most = 0
        while any(sender.is_alive() for sender in senders):
            most = max(most, condition(server.process.pid).memory)
            time.sleep(0.02)
        assert_answers(server)
        print(f"40 {kind} of 4 MiB: {(most - before) / 2**20:.0f} MiB at most")
        # what was ended is given back
        until(lambda: condition(server.process.pid).memory - before < 1.5 * BUDGET, QUICKLY)
        assert most - before < 4 * BUDGET
        assert server.metric("voc_serve_calls_shed_total", model="", reason="memory") > 0


def test_a_message_that_announces_more_than_the_limit_is_refused_before_it_is_read(server: Server) -> None:
    host, _, port = server.address.rpartition(":")
    body = Body((host, int(port)), CLASSIFY, "127.0.0.1", 2**31)
    with body.connection:
        assert not body.send(8 * 2**20)
        assert body.sent < 2**17


def _received(connection: socket.socket) -> bytes:
    connection.settimeout(0.05)
    content = b""
    with contextlib.suppress(TimeoutError):
        while chunk := connection.recv(65536):
            content += chunk
    return content
