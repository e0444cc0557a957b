"""Dynamic batching: the images of all callers, to an engine that computes one batch at a time.

By default a batch does not wait until it is full: it is what arrived while the engine was busy, and for a moment what
is being decoded. A single caller is answered at once, and under load the batches grow. The queue is fair: clients take
turns, and so do the requests of one client; a request keeps its order.

Images whose batch failed, or was lost with its engine, are computed once more, each alone: so an image that ends its
engine or fails its batch does so to others once only. Images that are to be explained are computed alone too, in turns
with batches of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from serving.engine.process import EngineLost, Inputs, Scores
from serving.errors import DeadlineExceeded, Internal, Unavailable
from serving.request_context import RequestContext
from serving.telemetry.metrics import DropReason

log = logging.getLogger(__name__)

Item = TypeVar("Item")

LOST = "the engine of this version has ended and does not come back here: try again, or ask another server"
POISON = "the engine ended twice while it computed this picture, so it is not computed again"
COMING_SECONDS = 0.005
"""How long a batch that is not full waits for images that are being decoded: a small network takes less time for eight
together than for four alone. They take the processor meanwhile anyway."""
PING_SECONDS = 1.0
"""An engine without work is asked so often whether it is there."""
CLOSED = "this version is no longer served: try again, or ask another server"


@dataclass(eq=False)
class _QueuedImage:
    inputs: Inputs
    request: RequestContext
    explain: bool = False
    """Whether heat maps and embedding are wanted too."""
    suspect: bool = False
    """Whether its batch has failed, or was lost; so it is computed alone."""
    since: float = field(default_factory=time.monotonic)
    result: asyncio.Future[Scores] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


def batch_sizes(largest: int) -> tuple[int, ...]:
    """The batch sizes in use: the powers of two below `largest`, and `largest` itself.

    An engine optimises its graph for each size, so only sizes that were warmed up are run; with VGG-16 on a CPU
    batches of 8, 2 and 1 images take as long as one of 11.
    """
    return (*(2**power for power in range((largest - 1).bit_length())), largest)


class Batcher:
    """Runs `predict` in a separate thread, on batches of the queued images. Belongs to its event loop."""

    def __init__(self, predict: Callable[..., Scores | None], sizes: tuple[int, ...], timeout: float,
                 on_batch: Callable[[int, float], None], on_drop: Callable[[DropReason, int], None]) -> None:
        """Starts the thread and the task that takes batches.

        `predict` gets the images of a batch, and True where it is one that is to be explained.
        `sizes`: those to use, ascending; `timeout`: how long the first image of a batch that is not full waits for
        others, seconds. `on_batch` is told the images of a batch and its seconds in the engine, `on_drop` why images
        were not computed, and how many.
        """
        self.sizes = sizes
        self.images = self.batches = self.largest = 0
        """Images computed, in how many batches, and in the largest of them."""
        self.dropped = 0
        """Images that were not computed: their caller had gone, or their deadline had passed."""
        self.on_lost: Callable[[], object] = lambda: None
        """Called when the engine is lost; images then wait until `resume`."""
        self._predict = predict
        self._timeout = timeout
        self._on_batch, self._on_drop = on_batch, on_drop
        self._closing = self._last = False
        self._running = asyncio.Event()
        self._running.set()
        self._coming = 0
        """Images that are being decoded."""
        self._queue: FairQueue[_QueuedImage] = FairQueue()
        self._alone: FairQueue[_QueuedImage] = FairQueue()
        self._alone_is_next = True
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._task = asyncio.get_running_loop().create_task(self._serve(), context=Context())  # of no call

    @contextlib.contextmanager
    def expecting(self, images: int) -> Iterator[None]:
        """Wraps the decoding of images that `predict` is about to get."""
        self._coming += images
        try:
            yield
        finally:
            self._coming -= images
            if not self._coming:
                self._arrived.set()

    async def predict(self, inputs: Sequence[Inputs], request: RequestContext, explain: bool = False) -> list[Scores]:
        """Scores of images, each float32 [size, size, 3], one row each; with `explain` all outputs.

        Cancelling drops those that have not reached the engine. Raises DeadlineExceeded when the deadline passes before
        that, Unavailable once the batcher is closed, Internal for images that end their engine twice.
        """
        if self._closing or (self._last and not self._running.is_set()):
            raise Unavailable(CLOSED, 1)
        queued, is_first = [_QueuedImage(image, request, explain) for image in inputs], explain or not self._queue
        for image in queued:
            (self._alone if explain else self._queue).add(request.client, request.id, image)
        if is_first or len(self._queue) >= self.sizes[-1] or not self._coming:
            self._arrived.set()
        try:
            return ([await queued[0].result] if len(queued) == 1 else
                    await asyncio.gather(*(image.result for image in queued)))
        finally:  # however the wait ended, these images need not be computed any more
            for image in queued:
                image.result.cancel()

    def resume(self) -> None:
        """The engine is there again."""
        self._running.set()

    def expect_no_other(self) -> None:
        """From now on a lost engine is not replaced: images that wait for that get Unavailable, and those to come."""
        self._last = True
        if not self._running.is_set():
            self._fail_waiting()

    async def close(self) -> None:
        """Finishes the running batch and ends the thread; images that still wait get Unavailable."""
        self._closing = True
        self._running.set()
        self._arrived.set()
        await self._task
        self._fail_waiting()
        self._thread.shutdown(wait=False)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            if not self._queue and not self._alone:
                await self._wait(PING_SECONDS)
            await self._fill()
            await self._running.wait()
            if self._closing:
                return
            batch = self._take()
            if not batch and self._arrived.is_set():
                continue
            begin = time.monotonic()  # without a batch: is the engine there?
            try:
                explain = (True,) if batch and batch[0].explain else ()
                scores = await loop.run_in_executor(self._thread, self._predict, [image.inputs for image in batch],
                                                    *explain)
            except EngineLost as error:
                log.error("a batch of %d is lost: %s", len(batch), error)
                self._running.clear()
                self._repeat(batch, Internal(POISON))
                if self._last:
                    self._fail_waiting()
                self.on_lost()
            except Exception as error:
                log.exception("the engine failed on a batch of %d", len(batch))
                self._repeat(batch, error)
            else:
                if scores is not None:
                    self._answer(batch, scores, begin)

    def _answer(self, batch: Sequence[_QueuedImage], scores: Scores, begin: float) -> None:
        end = time.monotonic()
        self._on_batch(len(batch), end - begin)
        for row, image in enumerate(batch):
            image.request.on_stage("queue", image.since, begin)
            image.request.on_stage("engine", begin, end)
            if not image.result.done():
                image.result.set_result(scores[row:row + 1])

    async def _fill(self) -> None:
        """Waits up to the timeout for a full batch, counted from the arrival of its first image."""
        while 0 < len(self._queue) < self.sizes[-1] and not self._closing and (self._timeout or self._coming):
            seconds = max(self._timeout, COMING_SECONDS if self._coming else 0)
            left = min(image.since for image in self._queue) + seconds - time.monotonic()
            if left <= 0:
                return
            await self._wait(left)

    async def _wait(self, seconds: float) -> None:
        """Until something that the batcher waits for has arrived."""
        self._arrived.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrived.wait()

    def _repeat(self, batch: Sequence[_QueuedImage], error: Exception) -> None:
        """Has the images of a batch that went wrong computed alone; one that was fails."""
        _fail(filter(lambda image: image.suspect, batch), error)
        for image in batch:
            if not image.suspect:
                image.suspect = True
                self._alone.add(image.request.client, image.request.id, image)

    def _fail_waiting(self) -> None:
        _fail([*self._queue, *self._alone], Unavailable(CLOSED if self._closing else LOST, 1))

    def _take(self) -> list[_QueuedImage]:
        """The next batch: as many of the images still wanted as fill the largest possible size, or one that is computed
        alone."""
        self._drop()
        if self._alone and (self._alone_is_next or not self._queue):
            self._alone_is_next = False
            return [self._alone.take()]
        self._alone_is_next = True
        size = max((size for size in self.sizes if size <= len(self._queue)), default=0)
        batch = [self._queue.take() for _ in range(size)]
        if batch:
            self.batches += 1
            self.images += size
            self.largest = max(self.largest, size)
        return batch

    def _drop(self) -> None:
        """Removes the images whose deadline has passed or whose caller has gone."""
        now = asyncio.get_running_loop().time()

        def expired(image: _QueuedImage) -> bool:
            return image.request.deadline is not None and now >= image.request.deadline

        def unwanted(image: _QueuedImage) -> bool:
            return image.result.done() or expired(image)

        if not any(map(unwanted, self._queue)) and not self._alone:
            return
        dropped = self._queue.remove(unwanted) + self._alone.remove(unwanted)
        _fail(dropped, DeadlineExceeded("the deadline passed while the picture waited for the engine"))
        late = sum(map(expired, dropped))
        self.dropped += len(dropped)
        if late:
            self._on_drop("expired", late)
        if len(dropped) > late:
            self._on_drop("cancelled", len(dropped) - late)


def _fail(images: Iterable[_QueuedImage], error: Exception) -> None:
    for image in images:
        if not image.result.done():
            image.result.set_exception(error)


class FairQueue(Generic[Item]):
    """Items by client and request. A request with a hundred images delays another's single one by one place only."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, OrderedDict[str, deque[Item]]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        return (item for requests in self._clients.values() for items in requests.values() for item in items)

    def add(self, client: str, request: str, item: Item) -> None:
        self._clients.setdefault(client, OrderedDict()).setdefault(request, deque()).append(item)
        self._length += 1

    def take(self) -> Item:
        """The next item; IndexError if there is none."""
        if not self._clients:
            raise IndexError("no item waits")
        client, requests = next(iter(self._clients.items()))
        request, items = next(iter(requests.items()))
        item = items.popleft()
        self._length -= 1
        if items:
            requests.move_to_end(request)
        else:
            del requests[request]
        if requests:
            self._clients.move_to_end(client)
        else:
            del self._clients[client]
        return item

    def remove(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        clients, removed = self._clients, []
        self._clients, self._length = OrderedDict(), 0
        for client, requests in clients.items():
            for request, items in requests.items():
                for item in items:
                    if unwanted(item):
                        removed.append(item)
                    else:
                        self.add(client, request, item)
        return removed
