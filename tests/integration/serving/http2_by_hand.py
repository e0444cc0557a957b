"""A gRPC client that can stop anywhere: HTTP/2 frames by hand (RFC 9113), headers without compression (RFC 7541)."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
"""Number of the setting: bytes that may be sent on a stream before its reader gives room for more."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(window: int | None = None) -> bytes:
    """The first frame of a connection."""
    return frame(SETTINGS, 0, 0, b"" if window is None else struct.pack(">HI", INITIAL_WINDOW_SIZE, window))


def headers(method: str, stream: int = 1) -> bytes:
    """The beginning of a call, without a deadline."""
    fields = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "a", "te": "trailers",
              "content-type": "application/grpc"}
    return frame(HEADERS, END_HEADERS, stream, b"".join(b"\0" + field(*pair) for pair in fields.items()))


def field(name: str, value: str) -> bytes:
    """Name and value of a header field; the value may have up to 16,000 bytes."""
    length = len(value)
    prefix = bytes([length]) if length < 127 else bytes([127, (length - 127) & 127 | 128, (length - 127) >> 7])
    return bytes([len(name)]) + name.encode() + prefix + value.encode()


def message(content: bytes, stream: int = 1, last: bool = True) -> bytes:
    """A message of a call."""
    return frame(DATA, END_STREAM if last else 0, stream, b"\0" + struct.pack(">I", len(content)) + content)


@contextlib.contextmanager
def connected(address: str, *content: bytes) -> Iterator[socket.socket]:
    """A connection on which `content` has been sent, and nothing read."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"".join(content))
        yield connection


def ended(connection: socket.socket, seconds: float = 10) -> bytes:
    """Everything that comes until the server hangs up; TimeoutError if it does not within some seconds."""
    connection.settimeout(seconds)
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
    return received
