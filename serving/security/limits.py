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
from dataclasses import dataclass
from ipaddress import IPv6Address

from serving.errors import InvalidArgument, ResourceExhausted

SMOOTHING = 0.1
"""Weight of the newest image in the average time between two that leave."""
LONGEST_RETRY = 30.0
"""Longest `retry_after`, seconds."""
MOST_CLIENTS = 10_000
"""Clients remembered at a time, a few hundred bytes each. Of more, the one that was silent longest is forgotten."""


class Capacity:
    """A bounded number of places for images of all models: being decoded, waiting, in an engine."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.taken = 0
        self._last_release = 0.0
        self._interval = 0.0

    def check(self, images: int) -> None:
        """InvalidArgument if there can never be places for as many."""
        if images > self.number:
            raise InvalidArgument(f"one call may bring up to {self.number} pictures (`queue_size`), this one has "
                                  f"{images}: send them in several calls")

    @contextlib.contextmanager
    def reserve(self, images: int) -> Iterator[None]:
        """Holds places for `images`.

        Raises InvalidArgument if there can never be as many, ResourceExhausted if there are not as many now.
        """
        self.check(images)
        if self.taken + images > self.number:
            raise ResourceExhausted(f"{self.taken} pictures are waiting and `queue_size` is {self.number}, so there is "
                                    f"no place for {images} more: try again in a moment", self.retry_after())
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


@dataclass(slots=True)
class Bucket:
    """Calls that a client may make now, as of a moment of the clock."""

    calls: float
    moment: float


class ClientLimits:
    """The limits of every client; a limit of 0 is none."""

    def __init__(self, rate: float, burst: int, concurrency: int, most_clients: int = MOST_CLIENTS,
                 clock: Callable[[], float] = time.monotonic, streams: int = 0) -> None:
        """`rate`, `burst`, `concurrency`, `streams`: as in SecurityConfig; `most_clients`: how many to remember."""
        self._rate, self._burst, self._concurrency = rate, burst, concurrency
        self._most_clients = most_clients
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()  # least recently used first
        self._streams = streams
        self._running: Counter[str] = Counter()  # only clients with calls, so no longer than the calls there are
        self._open_streams: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._buckets.keys() | self._running.keys())

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
        """Counts a call, or a message of a stream after the first. Raises ResourceExhausted."""
        if not self._rate:
            return
        bucket = self._bucket(counted_as(client))
        if bucket.calls < 1:
            wait = (1 - bucket.calls) / self._rate
            raise ResourceExhausted(f"client '{client}' makes more than the {self._rate:g} calls per second (after "
                             f"{self._burst} at once) that this server allows one client: wait {wait:.3g} s", wait,
                                    "rate")
        bucket.calls -= 1

    def _bucket(self, counted: str) -> Bucket:
        """The client's bucket as it is now; makes room by forgetting the clients that would be full again anyway."""
        now = self._clock()
        bucket = self._buckets.setdefault(counted, Bucket(self._burst, now))
        bucket.calls, bucket.moment = self._calls(bucket, now), now
        self._buckets.move_to_end(counted)
        for _ in range(2):  # more than can be added, so that the oldest idle ones never pile up
            oldest = next(iter(self._buckets))
            idle = oldest != counted and self._calls(self._buckets[oldest], now) >= self._burst
            if idle or len(self._buckets) > self._most_clients:
                del self._buckets[oldest]
        return bucket

    def _calls(self, bucket: Bucket, now: float) -> float:
        return min(self._burst, bucket.calls + (now - bucket.moment) * self._rate)


def counted_as(client: str) -> str:
    """The client itself, or the network of its IPv6 address."""
    if client.count(":") < 2:
        return client
    try:
        return str(IPv6Address(int(IPv6Address(client)) >> 64 << 64))
    except ValueError:
        return client
