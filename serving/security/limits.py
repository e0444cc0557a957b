"""Admission: how many images the server holds at a time, and how much one client may call.

Used from the event loop only. Clients with IPv6 addresses are counted by their /64 network, as one host has 2**64
addresses there (RFC 6177).
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address
from itertools import islice

from serving.errors import InvalidArgument, ResourceExhausted

SMOOTHING = 0.1
"""Weight of the newest image in the average time between two that leave."""
LONGEST_RETRY = 30.0
"""Longest `retry_after`, seconds."""
ROUNDING = 1e-6
"""Seconds that a call may come too early: times are rounded."""
MOST_CLIENTS = 10_000
"""Clients remembered at a time, a few hundred bytes each. Of more, the one that was silent longest is forgotten."""


class Capacity:
    """A bounded number of places for images of all models: being decoded, waiting, in an engine."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.taken = 0
        self._last_release = 0.0
        self._interval = 0.0

    def check(self, images: int, what: str = "") -> None:
        """InvalidArgument if there can never be places for as many; `what` they are, for the message."""
        if images > self.number:
            raise InvalidArgument(f"one call may bring up to {self.number} pictures (`queue_size`), this one has "
                                  f"{images}{what}: send them in several calls")

    def check_room(self, images: int = 1) -> None:
        """ResourceExhausted if there are not as many places now."""
        if self.taken + images > self.number:
            raise ResourceExhausted(f"{self.taken} pictures are waiting and `queue_size` is {self.number}, so there is "
                                    f"no place for {images} more: try again in a moment", self.retry_after())

    @contextlib.contextmanager
    def reserve(self, images: int, what: str = "") -> Iterator[None]:
        """Holds places for `images`; `what` they are, for messages.

        Raises InvalidArgument if there can never be as many, ResourceExhausted if there are not as many now.
        """
        self.check(images, what)
        self.check_room(images)
        if not self.taken:
            self._last_release = time.monotonic()  # what passed before was idle time
        self.taken += images
        try:
            yield
        finally:
            self.taken -= images
            self._measure(images)

    def retry_after(self) -> float:
        """Seconds after which half to all of the places will be free; random, so that not all callers retry at once."""
        since = time.monotonic() - self._last_release  # all that is known before the first release
        return min(LONGEST_RETRY, max(0.02, self.number * self._interval, since) * random.uniform(0.5, 1))

    def _measure(self, images: int) -> None:
        now = time.monotonic()
        interval = (now - self._last_release) / images
        weight = 1 - (1 - SMOOTHING) ** images if self._interval else 1
        self._interval += weight * (interval - self._interval)
        self._last_release = now


class ClientLimits:
    """The limits of every client; a limit of 0 is none."""

    def __init__(self, rate: float, burst: int, concurrency: int, most_clients: int = MOST_CLIENTS,
                 clock: Callable[[], float] = time.monotonic, streams: int = 0) -> None:
        """`rate`, `burst`, `concurrency`, `streams`: as in SecurityConfig; `most_clients`: how many to remember."""
        self._rate, self._burst, self._concurrency, self._streams = rate, burst, concurrency, streams
        self._most_clients, self._clock = most_clients, clock
        self._full_at: OrderedDict[str, float] = OrderedDict()  # least recently used first
        self._running: Counter[str] = Counter()  # only clients with calls, so no longer than the calls there are
        self._open_streams: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._full_at.keys() | self._running.keys())

    @contextlib.contextmanager
    def admitted(self, client: str, is_stream: bool = False) -> Iterator[None]:
        """Wraps one call or stream and counts it as running. Raises ResourceExhausted; refused calls do not count."""
        counted = counted_as(client)
        if is_stream and self._streams and self._open_streams[counted] >= self._streams:
            raise ResourceExhausted(f"client '{client}' has {self._open_streams[counted]} streams open, as many as "
                                    "this server allows one client (`client_streams`): close one", reason="streams")
        if self._concurrency and self._running[counted] >= self._concurrency:
            raise ResourceExhausted(f"client '{client}' has {self._running[counted]} calls running, as many as this "
                                    "server allows one client: wait for one to end", reason="concurrency")
        self.take(client)
        counters = (self._running, self._open_streams) if is_stream else (self._running,)
        for counter in counters:
            counter[counted] += 1
        try:
            yield
        finally:
            for counter in counters:
                counter[counted] -= 1
                if not counter[counted]:
                    del counter[counted]

    def take(self, client: str) -> None:
        """Counts a call, or a message of a stream after the first. Raises ResourceExhausted.

        A token bucket kept as one time for each client, when it would be full again (GCRA, ITU-T I.371).
        """
        if not self._rate:
            return
        counted, now = counted_as(client), self._clock()
        full_at = max(now, self._full_at.get(counted, now))
        wait = full_at - now - (self._burst - 1) / self._rate
        is_allowed = wait < ROUNDING
        self._full_at[counted] = full_at + is_allowed / self._rate
        self._full_at.move_to_end(counted)
        for oldest in list(islice(self._full_at, 2)):  # more than can be added, so that the idle ones never pile up
            if self._full_at[oldest] <= now or len(self._full_at) > self._most_clients:
                del self._full_at[oldest]
        if not is_allowed:
            raise ResourceExhausted(f"client '{client}' makes more than the {self._rate:g} calls per second (after "
                                    f"{self._burst} at once) that this server allows one client: wait {wait:.3g} s",
                                    wait, "rate")


def counted_as(client: str) -> str:
    """The client itself, or the network of its IPv6 address."""
    if client.count(":") < 2:
        return client
    try:
        return str(IPv6Address(int(IPv6Address(client)) >> 64 << 64))
    except ValueError:
        return client
