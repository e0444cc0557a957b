"""A version's network in a separate process: the server's end, and what both ends exchange.

Batches are handed over through shared memory, everything else through a socket.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.config.config import Engine
from serving.errors import ServeError

BATCH_SECONDS, SLOWER, LOAD = 10.0, 20.0, 60.0
"""An engine may be silent for so many seconds, or so many times as long as a batch of that size took before; while it
loads, or explains its first image, so many times as long as the first."""
LOOK_SECONDS = 0.5
"""Between two looks at an engine that has not answered yet."""
IDLE = 0.02
"""Share of the time in which an engine that waits, or is stopped, may compute: its threads wake up now and then."""
END_SECONDS = 10
"""How long an engine may take to exit after its socket was closed: a batch of the largest network."""

Inputs = npt.NDArray[np.float32]
"""Preprocessed images, float32 [N, size, size, 3] or [size, size, 3]; the scale is the model's own."""


@dataclass(frozen=True)
class Scores:
    """The network's outputs for N images, float32 arrays; columns are in the order of the labels."""

    probabilities: npt.NDArray[np.float32]
    """[N, C]"""
    logits: npt.NDArray[np.float32]
    """[N, C]"""
    heat_maps: npt.NDArray[np.float32] | None = None
    """[N, C, h, w], 0-1; they and embeddings only where they were asked for."""
    embeddings: npt.NDArray[np.float32] | None = None
    """[N, D], each of length 1."""

    @property
    def arrays(self) -> tuple[npt.NDArray[np.float32], ...]:
        """Those that there are."""
        return tuple(array for array in vars(self).values() if array is not None)

    def __getitem__(self, rows: slice) -> Scores:
        return Scores(*(array[rows] for array in self.arrays))

    def __reduce__(self) -> tuple[Any, ...]:  # as arrays they travel in ten times the time
        return _scores, tuple((array.shape, array.tobytes()) for array in self.arrays)


def joined(scores: Sequence[Scores]) -> Scores:
    """Of several images, all with the same outputs, one after the other."""
    return Scores(*map(np.concatenate, zip(*(score.arrays for score in scores), strict=True)))


def _scores(*outputs: tuple[tuple[int, ...], bytes]) -> Scores:
    return Scores(*(np.frombuffer(content, np.float32).reshape(shape) for shape, content in outputs))


class EngineLost(Exception):
    """The engine's process has ended, or was killed because it did not answer."""


@dataclass(frozen=True)
class LoadRequest:
    """What a worker loads, and how; its first message."""

    version_folder: Path
    precision: str
    """float32, bfloat16 or auto."""
    threads: int
    image_size: int
    """Height and width of the network's input, pixels."""
    labels: int
    """Columns that `probabilities` must have."""
    batch_sizes: tuple[int, ...]
    """All that may ever be computed, ascending."""
    background: bool
    """Load on half of the cores only, because another version is answering on all of them."""
    engine: Engine = "tensorflow"
    why: str = ""
    """Why that engine, for the log."""
    other_sizes: tuple[int, ...] = ()
    """Height and width of further images that may come, pixels; a batch that has one is computed image by image."""

    @property
    def shared_numbers(self) -> int:
        """Size of the shared memory, in float32: the largest batch, or the largest of the other images."""
        return 3 * max(self.batch_sizes[-1] * self.image_size**2, *(size**2 for size in (0, *self.other_sizes)))


def batch_in(shared: Inputs, images: int, size: int) -> Inputs:
    """The part of the shared memory that a batch takes: [images, size, size, 3]."""
    return shared[:3 * images * size**2].reshape(images, size, size, 3)


class EngineProcess:
    """Starts the worker's process, computes batches in it and ends it. The methods block.

    Started by posix_spawn or vfork and exec of a new interpreter, never by fork alone: TensorFlow and gRPC do not
    survive that (grpc#16001, grpc#20967).
    """

    def __init__(self, request: LoadRequest, timeout: float = 0) -> None:
        """Starts the process; `timeout`: as EngineConfig.engine_timeout."""
        self._timeout = timeout
        self.start(request)

    def start(self, request: LoadRequest) -> None:
        """Starts the process again, after `close`. It ends with the thread that calls this (PR_SET_PDEATHSIG)."""
        self.request = request
        self.hung = False
        """Whether it was killed because it did not answer."""
        self.description = "loading"
        """Then library, device, precision, threads and what was chosen by measuring."""
        self.batch_sizes = request.batch_sizes
        """Those that the engine computes, ascending, once it is loaded: it may find the largest to be of no use."""
        self.warm_up_seconds: tuple[float, ...] = ()
        """For each of them, how long its first batch took, once it is loaded."""
        self._batch_seconds: dict[int, float] = {}
        """By size of the batch, how long the fastest took."""
        self._explained = False
        """Whether it has explained an image."""
        memory = os.memfd_create("voc-serve-batch")
        os.truncate(memory, 4 * request.shared_numbers)
        server_end, worker_end = socket.socketpair()
        with worker_end:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "serving.engine.worker", str(worker_end.fileno()), str(memory)],
                stdin=subprocess.DEVNULL, pass_fds=(worker_end.fileno(), memory))
        self._connection = Connection(server_end.detach())
        self._poll = select.poll()  # the connection's own method makes one at each call
        self._poll.register(self._connection, select.POLLIN)
        self._shared = np.frombuffer(mmap.mmap(memory, 0), np.float32)
        os.close(memory)
        self._send(request)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_loaded(self) -> None:
        """Waits until the version is loaded and every batch size warmed up. Raises ServeError."""
        try:
            self.description, self.batch_sizes, self.warm_up_seconds = self._receive(
                LOAD * (self._timeout or BATCH_SECONDS))
        except EngineLost as error:
            raise ServeError(f"{self.request.version_folder} cannot be loaded: {error}") from error
        self._batch_seconds = dict(zip(self.batch_sizes, self.warm_up_seconds, strict=True))

    def predict(self, inputs: Sequence[Inputs], explain: bool = False) -> Scores | None:
        """Images, each float32 [size, size, 3], through the network; none: only whether the engine answers.

        explain: one image, with its heat maps and embedding; the first takes longer, as the engine gets ready for it.
        From one thread only. Raises EngineLost, or RuntimeError if the network cannot compute them.
        """
        if all(len(image) == self.request.image_size for image in inputs):
            return self._predict(inputs, explain)
        return joined([self._predict([image]) for image in inputs])  # type: ignore[misc]  # of several sizes

    def _predict(self, inputs: Sequence[Inputs], explain: bool = False) -> Scores | None:
        """Images of one size, in a number that the engine computes."""
        images, size, begin = len(inputs), len(inputs[0]) if inputs else 0, time.monotonic()
        if inputs:
            np.stack(inputs, out=batch_in(self._shared, images, size))
        self._send((images, size, explain))
        usual = self._batch_seconds.get(images, 0) * max(1, (size / self.request.image_size)**2)
        limit = self._timeout or max(BATCH_SECONDS, SLOWER * usual)
        answer: Scores | None = self._receive(limit * (LOAD if explain and not self._explained else 1))
        self._explained |= explain
        if size == self.request.image_size and not explain:
            self._batch_seconds[images] = min(usual, time.monotonic() - begin)
        return answer

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Closes the socket and waits for the process to end; one that is still loading is killed."""
        if not self.warm_up_seconds:
            self._process.kill()  # before the socket is closed: a thread may be waiting for an answer
            self._process.wait()
        self._connection.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise EngineLost(self._end()) from None

    def _receive(self, limit: float) -> Any:
        """The engine's next message, raised if it is an error. Kills an engine that sends none for `limit` seconds.

        Of an engine that computes, its processor time counts, divided by its threads: on a busy machine it gets less.
        Of a time in which this process stood still, as the engine then did, at most two looks count.
        """
        silent, tick, computed, looked = 0.0, min(LOOK_SECONDS, limit / 4), 0.0, 0.0
        try:
            while not self._poll.poll(1000 * tick):
                before, since = computed, looked
                computed, looked = self._processor_seconds(), time.monotonic()
                if not since:
                    continue  # the first look: most answers come before it
                passed = min(looked - since, 2 * tick)
                share = (computed - before) / passed
                silent += passed if share < IDLE else passed * min(1, share / self.request.threads)
                if silent >= limit:
                    self.hung = True
                    self.kill()
                    raise EngineLost(f"its engine's process {self.pid} did not answer for {silent:.0f} s and is killed")
            message = self._connection.recv()
        except (EOFError, OSError):
            raise EngineLost(self._end()) from None
        if isinstance(message, Exception):
            raise message
        return message

    def _processor_seconds(self) -> float:
        """User and system time of the process, seconds (proc_pid_stat(5)); 0 if it has ended."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _end(self) -> str:
        code = self._process.wait()
        return f"its engine's process {self.pid} ended with " + (
            f"signal {-code}" + (" (out of memory?)" if code == -9 else "") if code < 0 else f"exit code {code}")
