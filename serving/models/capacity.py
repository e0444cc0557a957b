"""How many images the server holds at a time, of all models together: being decoded, waiting, in an engine."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator

from serving.errors import InvalidArgument, ResourceExhausted

SMOOTHING = 0.1
"""Weight of the newest image in the average time between two that leave."""
LONGEST_RETRY = 30.0
"""Longest time to wait that a caller is told, seconds."""


class Capacity:
    """A bounded number of places for images. Belongs to the event loop."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.taken = 0
        self._last_release = 0.0
        self._interval = 0.0

    @contextlib.contextmanager
    def reserve(self, images: int) -> Iterator[None]:
        """Holds places for `images`.

        Raises InvalidArgument if there can never be as many, ResourceExhausted if there are not as many now.
        """
        if images > self.number:
            raise InvalidArgument(f"one call may bring up to {self.number} pictures (`queue_size`), this one has "
                                  f"{images}: send them in several calls")
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
        """Seconds after which half to all of the places will be free; random, so that callers do not return at once."""
        since = time.monotonic() - self._last_release  # all that is known before the first release
        return min(LONGEST_RETRY, max(0.02, self.number * self._interval, since) * random.uniform(0.5, 1))

    def _measure(self, images: int) -> None:
        now = time.monotonic()
        interval = (now - self._last_release) / images
        weight = 1 - (1 - SMOOTHING) ** images if self._interval else 1
        self._interval += weight * (interval - self._interval)
        self._last_release = now
