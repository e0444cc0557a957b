"""`make endurance`: a message that never ends is not waited for for ever, however patiently its client holds on."""

from __future__ import annotations

import time
from pathlib import Path

from serving.reception import RECEIVE_SECONDS
from tests.integration.serving.conftest import Start, until
from tests.integration.serving.http2_by_hand import (
    PREFACE,
    acknowledged,
    connected,
    ended,
    headers,
    message,
    settings,
)
from tests.integration.serving.tiny_model import export_tiny_model

CLASSIFY = "/voc_cls.v1.Classifier/Classify"
BODY = b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{"


def test_half_a_message_is_refused_after_a_minute_and_gives_its_place_back(tmp_path: Path) -> None:
    start = Start(tmp_path)
    try:
        server = start(export_tiny_model(tmp_path / "tiny" / "1").parent, "--max-calls", 3).wait_until_ready()
        begin = time.monotonic()
        half = PREFACE + settings() + acknowledged() + headers(CLASSIFY) + message(b"x" * 100, last=False)[:50]
        with connected(server.http, BODY) as slow_http, connected(server.address, half) as slow_grpc:
            until(lambda: server.metric("voc_serve_calls_in_flight", entrypoint="GRPC") == 1)
            slow_http.settimeout(2 * RECEIVE_SECONDS)
            assert slow_http.recv(65536).startswith(b"HTTP/1.1 408 ")
            assert RECEIVE_SECONDS <= time.monotonic() - begin < 1.5 * RECEIVE_SECONDS
            slow_grpc.settimeout(RECEIVE_SECONDS)
            answer = b""
            while b"grpc-message" not in answer:
                answer += slow_grpc.recv(65536)
            assert b"did not arrive within" in answer, answer
            until(lambda: server.metric("voc_serve_calls_in_flight", entrypoint="GRPC") == 0, 10)
            ended(slow_http, 30)
    finally:
        start.end_all()
