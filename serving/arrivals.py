"""What is arriving, and the memory that requests take until they are answered: one budget for both ports.

A body over HTTP is counted as it is read. gRPC's core collects a message out of Python's sight until it is whole, so
what has arrived of it is what the kernel has counted on its connection. No caller waits for memory that others hold:
when there is too little, the client that takes most of it for what is arriving loses the largest of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context
from dataclasses import dataclass, field
from urllib.parse import unquote

from serving.errors import DeadlineExceeded, ResourceExhausted, StatusError, Unavailable
from serving.request_context import RECEIVE_SECONDS, RequestContext
from serving.security.limits import counted_as

TICK, SHORT_TICK, FREE_SECONDS = 0.1, 0.02, 0.5
"""Seconds between two looks; the shorter one while something has just begun or a quarter of the budget is taken. What
arrives meanwhile may exceed the budget: 25 MB at 10 Gbit/s. Then, until gRPC's core has surely freed what was ended."""
LEAST_BYTES, RATE_SECONDS, FIRST_SECONDS = 64 * 1024, 5.0, 15.0
"""Of what is arriving, so many bytes must come in each RATE_SECONDS (100 kbit/s), after the first 15 s."""
MOST_WAITING = 2_000
"""Calls whose message is arriving and streams that are idle: up to 80 kB each, with gRPC's window of 64 kB."""
CHECK_BYTES = 1 << 20
"""The budget is checked when so much has been added: that takes the longer the more arrives, 0.7 ms for 2,000."""
MOST_CONNECTIONS = 4_096
"""Connections remembered before those that are closed are forgotten."""
GRPC_COST, HTTP_COST, VALUE_COST = 2, 4, 90
"""Bytes of memory for each byte of a protobuf message (itself and copies of its images; while it arrives, gRPC's read
buffers, which are full by half to two thirds) and of JSON (itself, its text, base64 and images), and for each value of
a JSON list (an object, its place in the list and in arrays)."""
FRAMING = 100
"""Bytes of headers and frames that come with a message, and a thousandth of it; a generous estimate."""
BYTES_RECEIVED = struct.Struct("=128xQ")
"""tcpi_bytes_received in Linux' struct tcp_info (tcp(7), linux/tcp.h)."""


@dataclass(eq=False)
class Connection:
    """A connection of gRPC's on which messages may be arriving."""

    peer: str
    """Host and port at the other end."""
    descriptor: int | None = None
    """Of the file; None until it is found."""
    received: int = 0
    """Bytes at the last look, since the connection began."""
    base: int = 0
    """Bytes that do not count, as their messages are whole or refused."""
    arrivals: int = 0
    """Calls and streams on it that wait for a message."""

    def look(self) -> None:
        """Asks the kernel; the descriptor may have become another's."""
        if self.descriptor is None:
            return
        with contextlib.suppress(OSError, struct.error), _borrowed(self.descriptor) as borrowed:
            if _peer_of(borrowed) == self.peer:
                info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_RECEIVED.size)
                self.received = BYTES_RECEIVED.unpack(info)[0]
                self.base = min(self.base, self.received)
                return
        self.descriptor, self.received, self.base = None, 0, 0


@dataclass(eq=False)
class Arrival:
    """A message or a body for which a call or a stream waits."""

    client: str
    begin: float
    """In the event loop's time, seconds, as all times here."""
    timer: asyncio.Timeout
    in_flight: bool
    """Whether the middleware counts the call."""
    is_stream: bool
    connection: Connection | None
    counted: int = 0
    """Bytes of memory, as counted by who reads it (HTTP)."""
    idle: bool = True
    """Whether it is the caller's turn: not while a stream has requests that are being answered."""
    why: Callable[[], StatusError] | None = None
    """Makes the error with which it was ended; an error kept here would keep what its stack trace refers to."""
    progress: int = 0
    """Bytes that had arrived when it was last looked at for being slow."""

    @property
    def size(self) -> int:
        """Bytes of memory that it takes; of several on one connection, each has its share."""
        if (connection := self.connection) is None:
            return self.counted
        return GRPC_COST * max(0, connection.received - connection.base) // connection.arrivals

    def whole(self, size: int) -> None:
        """The message has arrived: `size` bytes."""
        if self.connection is not None:
            self.connection.base += size + size // 1000 + FRAMING

    def turn(self, seconds: float | None) -> None:
        """The caller may be silent for `seconds` from now on; None: it is the server's turn."""
        self.idle = seconds is not None
        if self.why is None and not self.timer.expired():  # else its end is on the way
            self.timer.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)

    def end(self, why: Callable[[], StatusError]) -> None:
        """Has an error raised where it is waited for."""
        self.turn(0)
        self.why = why


@dataclass
class Arrivals:
    """Everything that is arriving, and the memory of everything that has arrived and is not answered."""

    budget: int
    """Bytes."""
    held: int = 0
    """Bytes that requests take which have arrived."""
    unpacking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a packed body is unpacked, one at a time, as its size is not known before."""
    _open: dict[Arrival, None] = field(default_factory=dict)
    """In the order in which they began."""
    _connections: dict[str, Connection] = field(default_factory=dict)
    """By their peers."""
    _watching: asyncio.Task[None] | None = None
    _trim_until: float = 0
    _unchecked: int = 0

    @property
    def taken(self) -> int:
        """Bytes that requests take which have arrived or are arriving; what was ended is about to go."""
        return self.held + sum(arrival.size for arrival in self._open if arrival.why is None)

    @property
    def idle(self) -> int:
        """Calls in flight that wait for their caller."""
        return sum(arrival.in_flight and arrival.idle for arrival in self._open)

    @contextlib.asynccontextmanager
    async def wait(self, client: str, peer: str = "", seconds: float | None = RECEIVE_SECONDS, *,
                   in_flight: bool = True, is_stream: bool = False) -> AsyncIterator[Arrival]:
        """Wraps the reading of a message or body, by one task, for `seconds` at most.

        `peer`: gRPC's name of the connection; "" for bodies, whose reader calls `count`. `in_flight`: whether the
        middleware counts the call; `is_stream`: whether the caller need not send now. Raises ResourceExhausted and
        Unavailable if memory or places were needed for others, DeadlineExceeded if it came too slowly.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds) as timer:
                connection = self._connection(peer)
                arrival = Arrival(counted_as(client), loop.time(), timer, in_flight, is_stream, connection)
                self._open[arrival] = None
                try:
                    self._make_room()
                    if self._watching is None or self._watching.done():
                        self._watching = loop.create_task(self._watch(), context=Context())
                    yield arrival
                finally:
                    del self._open[arrival]
                    dropped = arrival.size if arrival.why is not None else 0
                    if dropped >= LEAST_BYTES:
                        self._trim_until = loop.time() + FREE_SECONDS
                    if connection is not None:
                        connection.base += dropped // GRPC_COST  # the core drops what it has of a call that is refused
                        connection.arrivals -= 1
        except TimeoutError:
            if arrival.why is not None:
                raise arrival.why() from None
            if is_stream:
                raise Unavailable(f"the stream was idle for {seconds:g} s (`stream_idle_seconds`): open another when "
                                  "there is something to send") from None
            raise DeadlineExceeded(f"the message did not arrive within {seconds:g} s", http=408) from None

    def count(self, arrival: Arrival, size: int) -> None:
        """More of a body has arrived, of `size` bytes of memory."""
        arrival.counted += size
        self._add(size)

    def hold(self, request: RequestContext, size: int, force: bool = False) -> None:
        """A request has arrived and takes `size` bytes until it is answered. ResourceExhausted unless `force`."""
        if self.held + size > self.budget and not force:
            raise self._exhausted()
        self.held += size
        request.held += size
        self._add(size)

    def release(self, request: RequestContext, size: int) -> None:
        """So many bytes of a request, or of what a stream has sent, are needed no longer."""
        self.held -= size
        request.held -= size

    def _connection(self, peer: str) -> Connection | None:
        """gRPC's ipv4:1.2.3.4:5 or ipv6:%5B::1%5D:5, on which one more message arrives."""
        if not peer:
            return None
        address = unquote(peer).partition(":")[2].replace("[", "").replace("]", "")
        connection = self._connections.setdefault(address, Connection(address))
        if not connection.arrivals and connection.descriptor is not None:
            connection.look()
            connection.base = connection.received  # what came before does not count
        connection.arrivals += 1
        return connection

    async def _watch(self) -> None:
        """Looks at what is arriving on gRPC's connections for as long as there is something."""
        loop = asyncio.get_running_loop()
        peak, rate_check = 0, loop.time() + RATE_SECONDS
        while self._open or peak or self._trim_until:
            taken = self.taken
            is_much = taken > self.budget // 4
            is_quiet = not self._open or loop.time() - next(reversed(self._open)).begin > 1
            await asyncio.sleep(TICK if is_quiet and not is_much else SHORT_TICK)
            if self._trim_until or taken < peak // 2:
                self._trim_until, peak = self._trim_until if loop.time() < self._trim_until else 0, 0
                await asyncio.to_thread(_return_memory)
            elif is_much:
                peak = max(peak, taken)
            self._look()
            if loop.time() >= rate_check:
                rate_check = loop.time() + RATE_SECONDS
                self._end_slow(loop.time())
            self._relieve()

    def _look(self) -> None:
        busy = [connection for connection in self._connections.values() if connection.arrivals]
        if any(connection.descriptor is None for connection in busy) or len(self._connections) > MOST_CONNECTIONS:
            descriptors = _descriptors()
            self._connections = {peer: connection for peer, connection in self._connections.items()
                                 if connection.arrivals or peer in descriptors}
            for peer, connection in self._connections.items():
                connection.descriptor = descriptors.get(peer)
        for connection in busy:
            connection.look()

    def _end_slow(self, now: float) -> None:
        """Ends those of which too little has come since the last time, RATE_SECONDS ago."""
        for arrival in self._open:
            connection = arrival.connection
            progress = arrival.counted if connection is None else connection.received
            is_slow = progress - arrival.progress < LEAST_BYTES and now - arrival.begin >= FIRST_SECONDS
            is_known = connection is None or connection.descriptor is not None
            if is_slow and is_known and arrival.why is None and (not arrival.is_stream or arrival.size >= LEAST_BYTES):
                arrival.end(_too_slow)
            arrival.progress = progress

    def _make_room(self) -> None:
        """Ends one of those that wait if they are too many: the client that has most loses its oldest."""
        if len(self._open) > MOST_WAITING:
            oldest = self._largest(lambda arrival: arrival.idle)
            if oldest is not None and oldest.idle:
                oldest.end(_too_many)

    def _add(self, size: int) -> None:
        self._unchecked += size
        if self._unchecked >= CHECK_BYTES:
            self._unchecked = 0
            self._relieve()

    def _relieve(self) -> None:
        """Ends the largest of what is arriving until all is within the budget."""
        excess = self.taken - self.budget
        while excess > 0 and (largest := self._largest(lambda arrival: arrival.size)) and largest.size >= LEAST_BYTES:
            excess -= largest.size
            largest.end(self._exhausted)

    def _largest(self, size: Callable[[Arrival], int]) -> Arrival | None:
        """Of the client that has most in all, the largest; of several, the oldest."""
        left = [arrival for arrival in self._open if arrival.why is None]
        sizes: Counter[str] = Counter()
        for arrival in left:
            sizes[arrival.client] += size(arrival)
        return max(left, key=lambda arrival: (sizes[arrival.client], size(arrival)), default=None)

    def _exhausted(self) -> ResourceExhausted:
        return ResourceExhausted(f"requests take the {self.budget // 2**20} MiB of memory that this server has for "
                                 "them (`receive_mb`): try again in a moment", random.uniform(0.5, 1), "memory")


def _too_many() -> Unavailable:
    return Unavailable(f"{MOST_WAITING} calls and streams wait for their callers, and of the client that has most this "
                       "one has waited longest: open another when there is something to send", random.uniform(1, 2))


def _too_slow() -> DeadlineExceeded:
    return DeadlineExceeded(f"less than {LEAST_BYTES // 1024} KiB arrived in {RATE_SECONDS:g} s, which is too slow: "
                            "send less at a time", http=408)


def _return_memory() -> None:
    """Has the C library give back to the system what was freed: it keeps pages that gRPC filled (malloc_trim(3))."""
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _descriptors() -> dict[str, int]:
    """The file descriptor of every connection, by its peer (proc_pid_fd(5)); none with another system than Linux."""
    found, folder = {}, "/proc/self/fd"
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        with contextlib.suppress(OSError), _borrowed(int(name)) as connection:
            found[_peer_of(connection)] = int(name)
    return found


def _peer_of(connection: socket.socket) -> str:
    """Host and port, "" where there are none; an IPv4 address is written as such on IPv6 sockets too."""
    address = connection.getpeername()
    return f"{address[0]}:{address[1]}".removeprefix("::ffff:") if isinstance(address, tuple) else ""


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """A socket object for a descriptor that somebody else owns and closes."""
    borrowed = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()
