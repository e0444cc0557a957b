"""Decodes images in processes that can be killed, so that no image takes longer or more than it may.

Clients take turns, as in the batcher. An image waits for others of its work only: one worker takes none of more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import mmap
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serving.config.config import ServeConfig
from serving.decoding.worker import DONE, JOB, MEMORY_BYTES, MESSAGE_BYTES, MUCH, SLOT_BYTES, SLOTS, DecodeJob
from serving.engine.batcher import FairQueue
from serving.engine.process import Inputs
from serving.errors import DeadlineExceeded, ServeError
from serving.request_context import RequestContext
from serving.telemetry.metrics import Metrics
from voc_cls.image_decoder import Preprocessing
from voc_cls.image_header import ImageError

log = logging.getLogger(__name__)

LANES = (4_000_000, 128_000_000, math.inf)
"""Most work, see ImageWork.passes, of an image in each queue: up to some 20 and 500 ms, and more."""
LITTLE_BYTES = 1 << 20
"""The largest file that is tried in the first lane."""
MEMORY_PER_PIXEL, MEMORY_BESIDE = 16, 256 << 20
"""Bytes that a worker may take: for each pixel of the largest image (a progressive CMYK JPEG takes 12), and beside them
and four times the largest message."""
KILL_SECONDS = 0.1
"""How long an image may take whose caller has gone. A kill costs some milliseconds, so it must not be had for less."""
START_SECONDS, RESTART_SECONDS = 60.0, 1.0
"""How long a process may take to start, and the pause before the next attempt."""
pack: Callable[[DecodeJob], bytes] = lru_cache(pickle.dumps)


@dataclass(frozen=True, eq=False)
class _Image:
    content: bytes | memoryview
    shape: tuple[int, ...]
    """Of pixels that are decoded already; empty for an image file."""
    wanted: Preprocessing
    request: RequestContext
    result: asyncio.Future[Inputs | ImageError]
    since: float = field(default_factory=time.monotonic)
    spent: float = 0
    """Seconds that workers of earlier lanes have taken, which found that it is more work."""


class DecoderPool:
    """Belongs to its event loop; the processes end with it, or with the server."""

    def __init__(self, config: ServeConfig, metrics: Metrics) -> None:
        self._limits, self._metrics = config.pictures, metrics
        self._max_pixels = int(config.pictures.max_megapixels * 1e6)
        self._memory = MEMORY_BESIDE + MEMORY_PER_PIXEL * self._max_pixels + 4 * config.max_message_bytes
        self._start_template()
        self._lanes: list[FairQueue[_Image]] = [FairQueue() for _ in LANES]
        self._idle: dict[_Worker, None] = {}
        """The one that became idle last comes last."""
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = loop.create_future()
        self._tasks = [loop.create_task(self._serve(range(min(number, len(LANES)))))
                       for number in range(1, max(len(LANES), config.resolved_threads) + 1)]

    async def decode(self, images: Sequence[bytes | npt.NDArray[np.uint8]], wanted: Preprocessing,
                     request: RequestContext) -> list[Inputs | ImageError]:
        """Files, or decoded images, uint8 [H, W, 3] RGB → for each what the network takes, or why it is not valid.

        Raises DeadlineExceeded; then, and when it is cancelled, decoding ends too.
        """
        loop = asyncio.get_running_loop()
        results: list[asyncio.Future[Inputs | ImageError]] = [loop.create_future() for _ in images]
        for image, result in zip(images, results, strict=True):
            if isinstance(image, np.ndarray):
                self._add(_Image(image.data.cast("B"), image.shape, wanted, request, result), 0)
            elif (size := len(image) / 2**20) > self._limits.max_picture_mb:
                result.set_result(ImageError(f"too large: {size:.1f} MiB, this server takes pictures of up to "
                                             f"{self._limits.max_picture_mb:g} (`max_picture_mb`)"))
            else:
                self._add(_Image(image, (), wanted, request, result), int(len(image) > LITTLE_BYTES))
        try:
            async with asyncio.timeout_at(request.deadline):
                return [await result for result in results]
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the picture was decoded") from None
        finally:
            if dropped := sum(result.cancel() or result.cancelled() for result in results):
                late = request.deadline is not None and loop.time() >= request.deadline  # gRPC may cancel then, too
                self._metrics.dropped(request.model, "expired" if late else "cancelled", dropped)

    @property
    def pids(self) -> list[int]:
        """The processes."""
        template = self._template.pid
        children = Path(f"/proc/{template}/task/{template}/children")
        return [template, *(map(int, children.read_text().split()) if children.exists() else ())]

    async def started(self) -> None:
        """Waits until images can be decoded. Raises ServeError if they never can."""
        await asyncio.shield(self._started)

    async def close(self) -> None:
        """Ends the processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._control.close()
        self._template.kill()  # which ends the workers
        await asyncio.to_thread(self._template.wait)

    def _add(self, image: _Image, lane: int) -> None:
        self._lanes[lane].add(image.request.client, image.request.id, image)
        for worker in reversed(self._idle):  # the one that worked last is the least asleep
            if lane in worker.lanes:
                self._go_on(worker)
                return

    def _start_template(self) -> None:
        """Starts the process that forks the workers."""
        self._control, theirs = socket.socketpair()
        with theirs:
            self._template = subprocess.Popen(
                [sys.executable, "-m", "serving.decoding.worker", str(theirs.fileno()), str(self._memory)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(theirs.fileno(),),
                process_group=0, env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})

    async def _start_worker(self, lanes: Sequence[int]) -> _Worker:
        """Raises OSError or EOFError, and ends the template, where that does not fork one."""
        if self._template.poll() is not None:
            self._control.close()
            self._start_template()
        memory = os.memfd_create("voc-serve-decoded")
        os.truncate(memory, MEMORY_BYTES)
        ours, theirs = socket.socketpair()
        worker = _Worker(ours, memory, lanes)
        try:
            with theirs:
                socket.send_fds(self._control, [b"w"], [theirs.fileno(), memory])
            async with asyncio.timeout(START_SECONDS):
                await worker.start()
        except BaseException:  # when it is cancelled, too, the server ends
            worker.close()
            self._template.kill()
            raise
        finally:
            os.close(memory)
        return worker

    async def _serve(self, lanes: Sequence[int]) -> None:
        """Keeps one worker busy with the images of these lanes, which take turns."""
        while True:
            try:
                worker = await self._start_worker(lanes)
            except (OSError, EOFError):
                error = f"the decoders' process {self._template.pid} has ended, it is started again"
                if not self._started.done():
                    self._started.set_exception(ServeError(f"the decoders do not start ({error}): see the lines above"))
                log.error("%s", error)
                await asyncio.sleep(RESTART_SECONDS)
                continue
            if not self._started.done():
                self._started.set_result(None)
            self._go_on(worker)
            try:
                await worker.over.wait()
            finally:
                self._idle.pop(worker, None)
                worker.close()

    def _go_on(self, worker: _Worker) -> None:
        """Gives a worker without a job the next image of its lanes, which take turns."""
        self._idle.pop(worker, None)
        while not worker.ended:
            lane = next((lane for lane in worker.lanes if self._lanes[lane]), None)
            worker.lanes = (*worker.lanes[1:], worker.lanes[0])
            if lane is None:
                self._idle[worker] = None
                return
            if not (image := self._lanes[lane].take()).result.done():
                self._decode(worker, image, lane)
                return
        worker.over.set()

    def _decode(self, worker: _Worker, image: _Image, lane: int) -> None:
        """Has an image of this lane decoded, which may cost the worker."""
        loop, begin, seconds = asyncio.get_running_loop(), time.monotonic(), self._limits.decode_seconds
        late = begin + seconds - image.spent
        kills = [loop.call_at(late, worker.kill)]

        def caller_has_gone(_: object) -> None:
            kills.append(loop.call_at(begin + KILL_SECONDS, worker.kill))

        def done(decoded: Inputs | ImageError | None, ended: bool = False) -> None:
            image.result.remove_done_callback(caller_has_gone)
            for kill in kills:
                kill.cancel()
            if ended:
                why = ("took longer than its caller waited" if image.result.done() else "ends its decoder"
                       if time.monotonic() < late else
                       f"takes longer than {seconds:g} s to decode (`decode_seconds`)")
                decoded = ImageError(f"a picture of {len(image.content)} bytes that {why}")
                log.warning("a decoder is replaced: client '%s' sent %s", image.request.client, decoded)
            if decoded is None:
                self._add(replace(image, spent=image.spent + time.monotonic() - begin), lane + 1)
            elif not image.result.done():
                image.request.on_stage("decode_queue", image.since, begin)
                image.request.on_stage("decode", begin, time.monotonic())
                image.result.set_result(decoded)
            self._go_on(worker)

        image.result.add_done_callback(caller_has_gone)
        worker.run(DecodeJob(image.wanted, self._max_pixels, LANES[lane], image.shape), image.content, done)


class _Worker:
    """The server's end of a worker. Belongs to the running event loop once it has started."""

    def __init__(self, connection: socket.socket, memory: int, lanes: Sequence[int] = ()) -> None:
        connection.setblocking(False)
        self.lanes = lanes
        """From which it takes images, the next one first."""
        self.over = asyncio.Event()
        """Set once it has ended."""
        self._connection = connection
        self._memory = mmap.mmap(memory, 0, access=mmap.ACCESS_READ)
        self._free = list(range(0, SLOTS * SLOT_BYTES, SLOT_BYTES))
        """Where the slots begin whose result nobody has any more."""
        self._used: dict[int, weakref.ref[Inputs]] = {}
        self._answered: Callable[[bytes], None] | None = None
        """Takes the next message, or nothing if it has ended; None while nothing is asked."""
        self._sending: asyncio.Task[None] | None = None
        self._process: int | None = None
        self._killed = False
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    @property
    def ended(self) -> bool:
        """Whether the process has ended, which says nothing unasked, or is about to: it may have answered before."""
        return self._killed or bool(self._poll.poll(0))

    async def start(self) -> None:
        """Raises OSError, or EOFError if it has ended."""
        loop = asyncio.get_running_loop()
        pid: asyncio.Future[bytes] = loop.create_future()
        self._answered = pid.set_result
        loop.add_reader(self._connection, self._receive)
        if not await pid:
            raise EOFError
        self._process = os.pidfd_open(int(pid.result()))  # this process even when its number means another

    def run(self, job: DecodeJob, content: bytes | memoryview,
            done: Callable[[Inputs | ImageError | None, bool], None]) -> None:
        """Does one job; `done` gets None if it is more work than the job allows, and whether the worker has ended."""
        packed, fits = pack(job), 4 * job.wanted.size**2 * 3 <= SLOT_BYTES
        begin = self._free.pop() if fits and self._free else SLOTS * SLOT_BYTES

        def answered(answer: bytes) -> None:
            decoded: Inputs | ImageError | None = None
            if answer == DONE:
                decoded = job.result(self._memory, begin)
            elif answer != MUCH:
                decoded = ImageError(answer.decode(errors="replace"))
            if begin == SLOTS * SLOT_BYTES:
                decoded = decoded.copy() if isinstance(decoded, np.ndarray) else decoded
            elif isinstance(decoded, np.ndarray):
                self._used[begin] = weakref.ref(decoded, lambda _: self._free.append(begin))
            else:
                self._free.append(begin)
            done(decoded, not answer)

        self._answered = answered
        head = JOB.pack(begin, len(packed), len(content)) + packed
        with contextlib.suppress(OSError):  # it has ended, which is about to be read
            sent = self._connection.sendmsg([head, content])  # there is room for the head: the job before has been read
            if sent < len(head) + len(content):
                self._sending = asyncio.ensure_future(self._send(memoryview(content)[sent - len(head):]))

    def kill(self) -> None:
        """Ends it, and with it the job that it does."""
        self._killed = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def close(self) -> None:
        self.kill()
        if self._process is not None or self._answered is not None:
            asyncio.get_running_loop().remove_reader(self._connection)
        if self._sending is not None:
            self._sending.cancel()
        self._connection.close()
        if self._process is not None:
            os.close(self._process)
            self._process = None  # or a later `kill` would be for whatever has the descriptor then

    async def _send(self, rest: memoryview) -> None:
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self._connection, rest)

    def _receive(self) -> None:
        """Takes the worker's next message: it is shorter than what a socket hands over in one piece."""
        message = b""
        with contextlib.suppress(OSError):
            message = self._connection.recv(MESSAGE_BYTES)
        if not message:
            asyncio.get_running_loop().remove_reader(self._connection)
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(message)
        else:  # it has ended, or speaks unasked
            self.kill()
            self.over.set()
