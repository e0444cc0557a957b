"""What is arriving, and the memory that requests take until they are answered: one budget for both ports.

A body over HTTP is counted as it is read. gRPC's core collects a message out of Python's sight until it is whole, so
what has arrived of it is what the kernel has counted on its connection. No caller waits for memory that others hold:
when there is too little, the client that takes most of it for what is arriving loses the largest of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from dataclasses import dataclass, field

from serving.errors import DeadlineExceeded, ResourceExhausted, StatusError, Unavailable
from serving.request_context import RECEIVE_SECONDS, RequestContext
from serving.security.limits import counted_as
from serving.tcp import Peer, bytes_received, connections, peer_of

TICK, SHORT_TICK = 0.1, 0.02
"""Seconds between two looks; the shorter one while something has just begun or a quarter of the budget is taken. What
arrives meanwhile may exceed the budget: 25 MB at 10 Gbit/s."""
LEAST_BYTES, RATE_SECONDS, FIRST_SECONDS = 64 * 1024, 5.0, 15.0
"""Of what is arriving, so many bytes must come in each RATE_SECONDS (100 kbit/s), after the first 15 s."""
MOST_WAITING = 2_000
"""Calls whose message is arriving and streams that are idle: up to 80 kB each, with gRPC's window of 64 kB."""
MOST_CONNECTIONS = 4_096
"""Connections remembered before those that are closed are forgotten."""
GRPC_COST, HTTP_COST, VALUE_COST = 2, 4, 90
"""Bytes of memory for each byte of a protobuf message (itself and copies of its images) and of JSON (itself, its text,
base64 and images), and for each value of a JSON list (an object, its place in the list and in arrays)."""
FRAMING = 100
"""Bytes of headers and frames that come with a message, and a thousandth of it; a generous estimate."""
UNKNOWN = -1
"""The file descriptor of a connection that cannot be found."""


@dataclass(eq=False)
class Connection:
    """A connection of gRPC's on which messages may be arriving."""

    peer: Peer
    descriptor: int | None = None
    """None until it was looked for."""
    received: int = 0
    """Bytes at the last look, since the connection began."""
    base: int | None = 0
    """Bytes that do not count, as their messages are whole or refused; None: all until the next look."""
    arrivals: int = 0
    """Calls and streams on it that wait for a message."""

    @property
    def pending(self) -> int:
        """Bytes of messages that are not whole."""
        return 0 if self.base is None else max(0, self.received - self.base)

    def look(self) -> None:
        """Asks the kernel."""
        received = None if self.descriptor in (None, UNKNOWN) else bytes_received(self.descriptor, self.peer)
        if received is None:
            self.descriptor = UNKNOWN
            return
        self.received = received
        self.base = received if self.base is None else min(self.base, received)

    def begin(self) -> None:
        """Another call or stream waits for a message: if it is the first, what came before does not count."""
        if not self.arrivals and self.descriptor == UNKNOWN:
            self.descriptor = None  # the connection may be another one by now, from the same port
        if not self.arrivals and self.received + (self.base or 0):
            self.base = None
            if self.descriptor is not None:
                self.look()
        self.arrivals += 1


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
    looked: float = 0
    progress: int = 0
    """Bytes that had arrived at `looked`."""

    @property
    def size(self) -> int:
        """Bytes of memory that it takes; of several on one connection, each has its share."""
        return self.counted if self.connection is None else self.connection.pending // max(1, self.connection.arrivals)

    def end(self, why: Callable[[], StatusError]) -> None:
        """Has an error raised where it is waited for."""
        self.why = why
        self.expire(asyncio.get_running_loop().time())

    def expire(self, moment: float | None) -> None:
        """Sets when it has waited too long, unless it has: its end is on the way then."""
        if not self.timer.expired():
            self.timer.reschedule(moment)


@dataclass
class Arrivals:
    """Everything that is arriving, and the memory of everything that has arrived and is not answered."""

    budget: int
    """Bytes."""
    held: int = 0
    """Bytes that requests take which have arrived."""
    idle: int = 0
    """Calls in flight that wait for their caller."""
    unpacking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a packed body is unpacked, one at a time, as its size is not known before."""
    _counted: int = 0
    _open: dict[Arrival, None] = field(default_factory=dict)
    """In the order in which they began."""
    _connections: dict[Peer, Connection] = field(default_factory=dict)
    _watching: asyncio.Task[None] | None = None
    _to_trim: bool = False

    @property
    def arriving(self) -> int:
        """Bytes that are arriving."""
        return self._counted + sum(one.pending for one in self._connections.values() if one.arrivals)

    @contextlib.asynccontextmanager
    async def wait(self, client: str, peer: str = "", seconds: float | None = RECEIVE_SECONDS, *,
                   in_flight: bool = True, is_stream: bool = False) -> AsyncIterator[Arrival]:
        """Wraps the reading of a message or body, by one task.

        Args:
            client: as limits count it.
            peer: gRPC's name of the connection; "" for bodies, whose reader calls `count`.
            seconds: how long it may take; None: for ever.
            in_flight: whether the middleware counts the call.
            is_stream: whether the caller need not send now.

        Raises:
            ResourceExhausted, Unavailable: memory or places were needed for others.
            DeadlineExceeded: it came too slowly.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds) as timer:
                arrival = Arrival(counted_as(client), loop.time(), timer, in_flight, is_stream, self._connection(peer),
                                  looked=loop.time())
                self._open[arrival] = None
                self.idle += in_flight
                if arrival.connection is not None:
                    arrival.connection.begin()
                try:
                    self._make_room()
                    if self._watching is None or self._watching.done():
                        self._watching = loop.create_task(self._watch(), context=Context())
                    yield arrival
                finally:
                    self._close(arrival)
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
        self._counted += size
        self._relieve()

    def whole(self, arrival: Arrival, size: int) -> None:
        """The message has arrived: `size` bytes."""
        if arrival.connection is not None and arrival.connection.base is not None:
            arrival.connection.base += size + size // 1000 + FRAMING

    def turn(self, arrival: Arrival, seconds: float | None) -> None:
        """The caller of a stream may be silent for `seconds` from now on; None: it is the server's turn."""
        arrival.expire(None if seconds is None else asyncio.get_running_loop().time() + seconds)
        self.idle += (seconds is not None) - arrival.idle
        arrival.idle = seconds is not None

    @property
    def full(self) -> bool:
        """Whether what has arrived takes all of the memory."""
        return self.held >= self.budget

    def hold(self, request: RequestContext, size: int, force: bool = False) -> None:
        """A request has arrived and takes `size` bytes until it is answered. ResourceExhausted unless `force`."""
        if self.held + size > self.budget and not force:
            raise self._exhausted()
        self.held += size
        request.held += size
        self._relieve()

    def release(self, request: RequestContext, size: int) -> None:
        """So many bytes of a request, or of what a stream has sent, are needed no longer."""
        self.held -= size
        request.held -= size

    def _connection(self, peer: str) -> Connection | None:
        address = peer_of(peer)
        return None if address is None else self._connections.setdefault(address, Connection(address))

    def _close(self, arrival: Arrival) -> None:
        del self._open[arrival]
        self.idle -= arrival.in_flight and arrival.idle
        self._counted -= arrival.counted
        if (connection := arrival.connection) is not None:
            if arrival.why is not None and connection.base is not None:
                connection.base += arrival.size  # the core drops what it has of a call that is refused
            connection.arrivals -= 1

    def _make_room(self) -> None:
        """Ends one of those that wait if they are too many: the client that has most loses its oldest."""
        if len(self._open) <= MOST_WAITING:
            return
        waiting = [arrival for arrival in self._open if arrival.idle and arrival.why is None]
        clients = Counter(arrival.client for arrival in waiting)
        if waiting:
            most = max(clients, key=lambda client: clients[client])
            oldest = next(arrival for arrival in waiting if arrival.client == most)
            oldest.end(_too_many)

    async def _watch(self) -> None:
        """Looks at what is arriving on gRPC's connections for as long as there is something."""
        most = 0
        loop = asyncio.get_running_loop()
        while self._open or most:
            is_quiet = not self._open or loop.time() - next(reversed(self._open)).begin > 1
            await asyncio.sleep(TICK if is_quiet and self.held + self.arriving < self.budget // 4 else SHORT_TICK)
            if most and (self._to_trim or self.held + self.arriving < most // 2):
                self._to_trim, most = False, 0
                await asyncio.to_thread(_return_memory)
            self._look()
            self._end_slow(loop.time())
            self._relieve()
            taken = self.held + self.arriving
            most = max(most, taken) if taken > self.budget // 4 else most

    def _look(self) -> None:
        busy = [connection for connection in self._connections.values() if connection.arrivals]
        if any(one.descriptor is None for one in busy) or len(self._connections) > MOST_CONNECTIONS:
            descriptors = connections()
            self._connections = {peer: one for peer, one in self._connections.items()
                                 if one.arrivals or peer in descriptors}
            for peer, connection in self._connections.items():
                if connection.descriptor is None:
                    connection.descriptor = descriptors.get(peer, UNKNOWN)
        for connection in busy:
            connection.look()

    def _end_slow(self, now: float) -> None:
        for arrival in self._open:
            if arrival.why is not None or now - arrival.looked < RATE_SECONDS:
                continue
            connection = arrival.connection
            progress = arrival.counted if connection is None else connection.received
            slow = progress - arrival.progress < LEAST_BYTES and now - arrival.begin >= FIRST_SECONDS
            unknown = connection is not None and connection.descriptor == UNKNOWN
            if slow and not unknown and (not arrival.is_stream or arrival.size >= LEAST_BYTES):
                arrival.end(_too_slow)
            arrival.looked, arrival.progress = now, progress

    def _relieve(self) -> None:
        """Ends the largest of what is arriving until all is within the budget."""
        excess = self.held + self.arriving - self.budget
        if excess > 0:  # what was ended a moment ago is about to go
            excess -= sum(arrival.size for arrival in self._open if arrival.why is not None)
        while excess > 0:
            left = [arrival for arrival in self._open if arrival.why is None]
            sizes: Counter[str] = Counter()
            for arrival in left:
                sizes[arrival.client] += arrival.size
            largest = max(left, key=lambda arrival: (sizes[arrival.client], arrival.size), default=None)
            if largest is None or largest.size < LEAST_BYTES:
                return
            excess -= largest.size
            largest.end(self._exhausted)
            self._to_trim = True

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
