"""How many pictures the server holds at a time, whatever their model: being decoded, waiting, in an engine."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator

from serving.errors import InvalidArgument, ResourceExhausted

SMOOTHING = 0.1
"""Weight of the newest picture in the average time between two that leave."""
LONGEST_RETRY = 30.0
"""Seconds; nobody is sent away for longer."""


class Capacity:
    """A bounded number of places. Belongs to the event loop."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.taken = 0
        self._left = 0.0
        self._interval = 0.0

    @contextlib.contextmanager
    def taken_by(self, pictures: int) -> Iterator[None]:
        """Holds `pictures` places. InvalidArgument when there could never be as many, ResourceExhausted when there
        are not now.
        """
        if pictures > self.number:
            raise InvalidArgument(f"one call may bring up to {self.number} pictures (--queue-size), this one has "
                              f"{pictures}: send them in several calls")
        if self.taken + pictures > self.number:
            raise ResourceExhausted(f"{self.taken} pictures are waiting and --queue-size is {self.number}, so there "
                                    f"is no "
                             f"place for {pictures} more: try again in a moment", self.retry_after())
        if not self.taken:
            self._left = time.monotonic()  # what passed before was idle time
        self.taken += pictures
        try:
            yield
        finally:
            self.taken -= pictures
            self._measure(pictures)

    def retry_after(self) -> float:
        """Seconds after which half to all of the places will have become free; random, so that not all come at once."""
        since = time.monotonic() - self._left  # all that is known before the first has left
        return min(LONGEST_RETRY, max(0.02, self.number * self._interval, since) * random.uniform(0.5, 1))

    def _measure(self, pictures: int) -> None:
        now = time.monotonic()
        interval = (now - self._left) / pictures
        weight = 1 - (1 - SMOOTHING) ** pictures if self._interval else 1
        self._interval += weight * (interval - self._interval)
        self._left = now
