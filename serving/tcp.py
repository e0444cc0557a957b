"""What the kernel knows of this process's TCP connections (Linux: tcp(7), proc_pid_fd(5)), gRPC's among them."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from urllib.parse import unquote

Peer = tuple[str, int]
"""Host and port at the other end; an IPv4 address is written as such on IPv6 sockets too."""
BYTES_RECEIVED = struct.Struct("=128xQ")
"""tcpi_bytes_received in struct tcp_info (linux/tcp.h)."""


def peer_of(peer: str) -> Peer | None:
    """gRPC's ipv4:1.2.3.4:5 or ipv6:%5B::1%5D:5; None for other kinds."""
    kind, _, address = unquote(peer).partition(":")
    host, _, port = address.rpartition(":")
    return _peer(host.strip("[]"), int(port)) if kind in ("ipv4", "ipv6") and port.isdecimal() else None


def connections() -> dict[Peer, int]:
    """The file descriptor of every connection."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), _borrowed(int(name)) as connection:
            if (peer := _other_end(connection)) is not None:
                found[peer] = int(name)
    return found


def bytes_received(descriptor: int, peer: Peer) -> int | None:
    """Since the connection began; None if the descriptor is no longer that of a connection with `peer`."""
    with contextlib.suppress(OSError, struct.error), _borrowed(descriptor) as connection:
        if _other_end(connection) == peer:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_RECEIVED.size)
            return int(BYTES_RECEIVED.unpack(info)[0])
    return None


def _other_end(connection: socket.socket) -> Peer | None:
    """None for sockets that are not TCP's: a descriptor may mean another than a moment ago."""
    address = connection.getpeername()
    return _peer(address[0], address[1]) if isinstance(address, tuple) and isinstance(address[0], str) else None


def _peer(host: str, port: int) -> Peer:
    return host.removeprefix("::ffff:"), port


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """A socket object for a descriptor that somebody else owns and closes."""
    borrowed = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()
