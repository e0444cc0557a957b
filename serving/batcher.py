"""A bounded queue of pictures in front of an engine that takes them in batches.

There is no waiting for a batch to fill: a batch is what came in while the engine was busy. A lone caller is answered
at once, and under load the batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from serving.engine import Inputs, Scores
from serving.errors import Expired, InvalidCall, NotReady, Overloaded

log = logging.getLogger(__name__)


@dataclass
class BatchCounts:
    """What the batcher has done since it started."""

    pictures: int = 0
    batches: int = 0
    largest: int = 0
    """Pictures in the largest batch."""
    dropped: int = 0
    """Pictures whose caller had gone, or whose deadline had passed, when their turn came."""
    refused: int = 0
    """Pictures refused because the queue was full."""


@dataclass(frozen=True)
class _Waiting:
    inputs: Inputs
    deadline: float | None
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

    def __init__(self, predict: Callable[[Inputs], Scores], max_batch_size: int, queue_size: int) -> None:
        self.counts = BatchCounts()
        self.sizes = batch_sizes(max_batch_size)
        self._predict = predict
        self._queue_size = queue_size
        self._admitted = 0
        self._closing = False
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._task = asyncio.get_running_loop().create_task(self._serve())

    @contextlib.contextmanager
    def admitted(self, pictures: int) -> Iterator[None]:
        """Holds `pictures` places while they are decoded, wait and run.

        Raises InvalidCall when there could never be as many places, Overloaded when there are not at the moment.
        """
        if pictures > self._queue_size:
            raise InvalidCall(f"one call may bring up to {self._queue_size} pictures (--queue-size), this one has "
                              f"{pictures}: send them in several calls")
        if self._admitted + pictures > self._queue_size:
            self.counts.refused += pictures
            raise Overloaded(f"{self._admitted} pictures are waiting and --queue-size is {self._queue_size}, so there "
                             f"is no place for {pictures} more: try again in a moment")
        self._admitted += pictures
        try:
            yield
        finally:
            self._admitted -= pictures

    async def predict(self, inputs: Sequence[Inputs], deadline: float | None) -> Scores:
        """Scores of pictures, each float32 [size, size, 3]; `deadline` is in the event loop's time.

        Cancelling drops those that have not reached the engine. Raises Expired when the deadline passes before.
        """
        waiting = [_Waiting(picture, deadline) for picture in inputs]
        self._queue.extend(waiting)
        self._arrived.set()
        try:
            scores = await asyncio.gather(*(entry.answer for entry in waiting))
        finally:  # whatever ended the wait, none of its pictures is worth a place in a batch any more
            for entry in waiting:
                entry.answer.cancel()
        return Scores(np.concatenate([score.probabilities for score in scores]),
                      np.concatenate([score.logits for score in scores]))

    async def close(self) -> None:
        """Finishes the batch that runs and ends the thread; whoever still waits gets NotReady."""
        self._closing = True
        self._arrived.set()
        await self._task
        for entry in self._queue:
            if not entry.answer.done():
                entry.answer.set_exception(NotReady("the server is stopping"))
        self._queue.clear()
        self._thread.shutdown()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            await self._arrived.wait()
            batch = self._take(loop.time())
            if not batch:
                self._arrived.clear()
                continue
            try:
                scores = await loop.run_in_executor(self._thread, self._run, batch)
            except Exception as error:
                log.exception("the engine failed on a batch of %d", len(batch))
                for entry in batch:
                    if not entry.answer.done():
                        entry.answer.set_exception(error)
                continue
            for row, entry in enumerate(batch):
                if not entry.answer.done():
                    entry.answer.set_result(scores[row:row + 1])

    def _take(self, now: float) -> list[_Waiting]:
        """The next batch: of those that are still wanted, as many as the largest size that they fill."""
        wanted: deque[_Waiting] = deque()
        while self._queue and len(wanted) < self.sizes[-1]:
            entry = self._queue.popleft()
            if entry.deadline is not None and now >= entry.deadline and not entry.answer.done():
                entry.answer.set_exception(Expired("the deadline passed while the picture waited for the engine"))
            if entry.answer.done():
                self.counts.dropped += 1
            else:
                wanted.append(entry)
        size = max((size for size in self.sizes if size <= len(wanted)), default=0)
        batch = [wanted.popleft() for _ in range(size)]
        self._queue.extendleft(reversed(wanted))
        if batch:
            self.counts.batches += 1
            self.counts.pictures += size
            self.counts.largest = max(self.counts.largest, size)
        return batch

    def _run(self, batch: Sequence[_Waiting]) -> Scores:
        return self._predict(np.stack([entry.inputs for entry in batch]))
