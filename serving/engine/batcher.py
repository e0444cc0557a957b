"""Pictures of all callers, in batches, to an engine that takes them one batch at a time.

By default there is no waiting for a batch to fill: a batch is what came in while the engine was busy. A lone caller is
answered at once, and under load the batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, Protocol

from serving.engine.engine import EngineLost, Inputs, Scores
from serving.engine.fair_queue import FairQueue
from serving.errors import DeadlineExceeded, Unavailable
from serving.request_context import RequestContext

log = logging.getLogger(__name__)

CLOSED = "this version is no longer served: try again, or ask another server"

Drop = Literal["expired", "cancelled"]
"""Why a picture was not computed: its deadline had passed, or its caller had gone."""


class BatchObserver(Protocol):
    """Who is told what the batcher does."""

    def batch(self, pictures: int, seconds: float) -> None:
        """A batch has been computed, in so many seconds."""

    def dropped(self, reason: Drop, pictures: int) -> None:
        """Pictures were not computed."""


@dataclass
class BatchCounts:
    """What the batcher has done since it started."""

    pictures: int = 0
    batches: int = 0
    largest: int = 0
    """Pictures in the largest batch."""
    dropped: int = 0
    """Pictures whose caller had gone, or whose deadline had passed, when their turn came."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    inputs: Inputs
    call: RequestContext
    since: float = field(default_factory=time.monotonic)
    answer: asyncio.Future[Scores] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


def batch_sizes(largest: int) -> tuple[int, ...]:
    """The batch sizes in use: the powers of two below `largest`, and `largest` itself.

    An engine prepares itself for each size anew, so only sizes that were warmed up are ever run; with VGG-16 on a CPU
    8 + 2 + 1 pictures take as long as 11 at once.
    """
    return (*(2**power for power in range((largest - 1).bit_length())), largest)


class Batcher:
    """Runs `predict` in a thread of its own, on batches of the pictures that callers hand in.

    All methods belong to the event loop it was made in.
    """

    def __init__(self, predict: Callable[[Sequence[Inputs]], Scores], sizes: tuple[int, ...], timeout: float,
                 observer: BatchObserver) -> None:
        """`timeout` is how long, seconds, the first picture of a batch that is not full waits for others."""
        self.counts = BatchCounts()
        self.sizes = sizes
        self._predict = predict
        self._timeout = timeout
        self._observer = observer
        self._closing = False
        self._queue: FairQueue[_Waiting] = FairQueue()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._task = asyncio.get_running_loop().create_task(self._serve())

    async def predict(self, inputs: Sequence[Inputs], call: RequestContext) -> list[Scores]:
        """Scores of pictures, each float32 [size, size, 3], one row each.

        Cancelling drops those that have not reached the engine. Raises Expired when the deadline passes before,
        Unavailable once it is closed.
        """
        if self._closing:
            raise Unavailable(CLOSED)
        waiting = [_Waiting(picture, call) for picture in inputs]
        for entry in waiting:
            self._queue.add(call.client, call.id, entry)
        self._arrived.set()
        if len(self._queue) >= self.sizes[-1]:
            self._full.set()
        try:
            return await asyncio.gather(*(entry.answer for entry in waiting))
        finally:  # whatever ended the wait, none of its pictures is worth a place in a batch any more
            for entry in waiting:
                entry.answer.cancel()

    async def close(self) -> None:
        """Finishes the batch that runs and ends the thread; whoever still waits gets Unavailable."""
        self._closing = True
        self._arrived.set()
        self._full.set()
        await self._task
        for entry in self._queue:
            _fail(entry, Unavailable(CLOSED))
        self._thread.shutdown(wait=False)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            await self._arrived.wait()
            await self._fill()
            batch = self._take()
            if not batch:
                self._arrived.clear()
                continue
            begin = time.monotonic()
            try:
                scores = await loop.run_in_executor(self._thread, self._predict, [entry.inputs for entry in batch])
            except EngineLost as error:
                log.error("a batch of %d is lost: %s", len(batch), error)
                lost = Unavailable("the engine of this version has ended and is being started again: try again")
                for entry in batch:
                    _fail(entry, lost)
                continue
            except Exception as error:
                log.exception("the engine failed on a batch of %d", len(batch))
                for entry in batch:
                    _fail(entry, error)
                continue
            end = time.monotonic()
            self._observer.batch(len(batch), end - begin)
            for row, entry in enumerate(batch):
                entry.call.stage("queue", entry.since, begin)
                entry.call.stage("engine", begin, end)
                if not entry.answer.done():
                    entry.answer.set_result(scores[row:row + 1])

    async def _fill(self) -> None:
        """Waits up to the timeout for a full batch, counted from when its first picture came."""
        if not self._timeout or not self._queue or self._closing:
            return
        left = min(entry.since for entry in self._queue) + self._timeout - time.monotonic()
        if len(self._queue) < self.sizes[-1] and left > 0:
            self._full.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), left)

    def _take(self) -> list[_Waiting]:
        """The next batch: of those that are still wanted, as many as the largest size that they fill."""
        self._drop()
        size = max((size for size in self.sizes if size <= len(self._queue)), default=0)
        batch = [self._queue.take() for _ in range(size)]
        if batch:
            self.counts.batches += 1
            self.counts.pictures += size
            self.counts.largest = max(self.counts.largest, size)
        return batch

    def _drop(self) -> None:
        """Takes those out of the queue whose deadline has passed or whose caller has gone."""
        now = asyncio.get_running_loop().time()

        def expired(entry: _Waiting) -> bool:
            return entry.call.deadline is not None and now >= entry.call.deadline

        dropped = self._queue.remove(lambda entry: entry.answer.done() or expired(entry))
        for entry in dropped:
            _fail(entry, DeadlineExceeded("the deadline passed while the picture waited for the engine"))
        late = sum(map(expired, dropped))
        self.counts.dropped += len(dropped)
        if late:
            self._observer.dropped("expired", late)
        if len(dropped) > late:
            self._observer.dropped("cancelled", len(dropped) - late)


def _fail(entry: _Waiting, error: Exception) -> None:
    if not entry.answer.done():
        entry.answer.set_exception(error)
