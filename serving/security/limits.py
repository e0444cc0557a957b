"""How much one client may ask: calls per second as a token bucket, and calls at a time.

Used from the event loop only. A client with an IPv6 address counts by its /64 network, as whoever has one address there
has 2**64 of them (RFC 6177).
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address

from serving.config.config import SecurityConfig
from serving.errors import ResourceExhausted

MOST_CLIENTS = 10_000
"""Clients remembered at a time, a few hundred bytes each. Beyond, the one that has been quiet longest starts anew."""


@dataclass(slots=True)
class Bucket:
    """Calls that a client may make now, as of a moment of the clock."""

    calls: float
    moment: float


class ClientLimits:
    """Counts for all clients; limits that are 0 cost and keep nothing."""

    def __init__(self, config: SecurityConfig, most_clients: int = MOST_CLIENTS,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._concurrency = config.client_rate, config.client_burst, config.client_concurrency
        self._most_clients = most_clients
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()  # least recently used first
        self._running: Counter[str] = Counter()  # only clients with calls, so no longer than the calls there are

    def __len__(self) -> int:
        """Number of clients remembered."""
        return len(self._buckets.keys() | self._running.keys())

    @contextmanager
    def admitted(self, client: str) -> Iterator[None]:
        """Around one call, a stream included: counts it as running. Raises ResourceExhausted; a refused call costs
        nothing.
        """
        counted = _counted_as(client)
        if self._concurrency and self._running[counted] >= self._concurrency:
            raise ResourceExhausted(f"client '{client}' has {self._running[counted]} calls running, as many as this "
                                    f"server "
                             "allows one client: wait for one to end", reason="concurrency")
        self._take(counted, client)
        if not self._concurrency:
            yield
            return
        self._running[counted] += 1
        try:
            yield
        finally:
            self._running[counted] -= 1
            if not self._running[counted]:
                del self._running[counted]

    def take(self, client: str) -> None:
        """For each message of a stream after its first, which its call has paid for. Raises ResourceExhausted."""
        self._take(_counted_as(client), client)

    def _take(self, counted: str, client: str) -> None:
        if not self._rate:
            return
        now = self._clock()
        bucket = self._bucket(counted, now)
        if bucket.calls < 1:
            wait = (1 - bucket.calls) / self._rate
            raise ResourceExhausted(f"client '{client}' makes more than the {self._rate:g} calls per second (after "
                             f"{self._burst} at once) that this server allows one client: wait {wait:.3g} s", wait,
                             "rate")
        bucket.calls -= 1

    def _bucket(self, counted: str, now: float) -> Bucket:
        """The client's bucket as it is now; makes room by forgetting the clients that would be full again anyway."""
        bucket = self._buckets.get(counted)
        if bucket is None:
            bucket = self._buckets[counted] = Bucket(self._burst, now)
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


def _counted_as(client: str) -> str:
    if client.count(":") < 2:
        return client
    try:
        return str(IPv6Address(int(IPv6Address(client)) >> 64 << 64))
    except ValueError:
        return client
