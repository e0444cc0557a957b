"""`make endurance`: a message that never ends is not waited for for ever, however patiently its client holds on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

from serving.arrivals import FIRST_SECONDS, RATE_SECONDS, TICK
from tests.integration.serving.conftest import Start, until
from tests.integration.serving.http2_by_hand import connected
from tests.integration.serving.tiny_model import export_tiny_model

CLASSIFY = "/voc_cls.v1.Classifier/Classify"
HALF = b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{"


def test_a_message_that_does_not_arrive_is_refused_and_gives_its_place_back(tmp_path: Path) -> None:
    start, never = Start(tmp_path), threading.Event()

    def messages() -> Iterator[bytes]:
        never.wait()
        yield from ()

    try:
        server = start(export_tiny_model(tmp_path / "tiny" / "1").parent, "--max-calls", 3).wait_until_ready()
        begin = time.monotonic()
        call = server.channel().stream_unary(CLASSIFY).future(messages())
        with connected(server.http, HALF) as slow:
            until(lambda: server.metric("voc_serve_calls_in_flight", entrypoint="GRPC") == 1)
            slow.settimeout(4 * FIRST_SECONDS)
            assert slow.recv(65536).startswith(b"HTTP/1.1 408 ")
            assert FIRST_SECONDS - TICK <= time.monotonic() - begin < FIRST_SECONDS + 2 * RATE_SECONDS
            assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert "too slow" in call.details()
            until(lambda: server.metric("voc_serve_calls_in_flight", entrypoint="GRPC") == 0, 10)
    finally:
        never.set()
        start.end_all()
