"""A version's network in a separate process: the server's end, and what both ends exchange.

Batches are handed over through shared memory, everything else through a socket.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.errors import ServeError

END_SECONDS = 10
"""How long an engine may take to exit after its socket was closed: a batch of the largest network."""

Inputs = npt.NDArray[np.float32]
"""Preprocessed images, float32 [N, size, size, 3] or [size, size, 3]; the scale is the model's own."""


@dataclass(frozen=True)
class Scores:
    """The network's outputs for N images: two float32 arrays [N, C], columns in the order of the labels."""

    probabilities: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]

    def __getitem__(self, rows: slice) -> Scores:
        return Scores(self.probabilities[rows], self.logits[rows])


class EngineLost(Exception):
    """The engine's process has ended."""


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
    """All that will ever be computed, ascending."""
    background: bool
    """Load on half of the cores only, because another version is answering on all of them."""

    @property
    def shared_shape(self) -> tuple[int, int, int, int]:
        """Shape of the shared memory, float32: the largest batch."""
        return self.batch_sizes[-1], self.image_size, self.image_size, 3


@dataclass(frozen=True)
class Loaded:
    """A worker's answer once the version is loaded and warmed up."""

    description: str
    """Library, device, precision and threads."""
    warm_up_seconds: tuple[float, ...]
    """For each batch size, how long its first batch took."""


@dataclass(frozen=True)
class Failure:
    """Why a worker could not load its version, or could not compute a batch."""

    reason: str


class EngineProcess:
    """Starts the worker's process, computes batches in it and ends it. The methods block.

    Started by posix_spawn or vfork and exec of a new interpreter, never by fork alone: TensorFlow and gRPC do not
    survive that (grpc#16001, grpc#20967).
    """

    def __init__(self, request: LoadRequest, stderr: int | None = None) -> None:
        """`stderr`: file descriptor for what it prints; default: this process's own at this moment."""
        self._version_folder = request.version_folder
        memory = os.memfd_create("voc-serve-batch")
        os.truncate(memory, 4 * int(np.prod(request.shared_shape)))
        server_end, worker_end = socket.socketpair()
        with worker_end:
            # the environment is a copy: TensorFlow, being imported in another thread, changes C's own under exec
            self._process = subprocess.Popen(
                [sys.executable, "-m", "serving.engine.worker", str(worker_end.fileno()), str(memory)],
                stdin=subprocess.DEVNULL, stderr=stderr, pass_fds=(worker_end.fileno(), memory),
                env=dict(os.environ))
        self._connection = Connection(server_end.detach())
        self._shared = np.frombuffer(mmap.mmap(memory, 0), np.float32).reshape(request.shared_shape)
        os.close(memory)
        self._loaded: Loaded | None = None
        self._send(request)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def description(self) -> str:
        return self._loaded.description if self._loaded else "loading"

    def on_end(self, listener: Callable[[], object]) -> None:
        """Has `listener` called in the running event loop when the process ends."""
        descriptor = os.pidfd_open(self.pid)
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            listener()

        Context().run(loop.add_reader, descriptor, ended)  # not about the call, if any, that had it loaded

    def wait_until_loaded(self) -> Loaded:
        """Waits until the version is loaded and every batch size warmed up. Raises ServeError."""
        try:
            answer: Loaded | Failure = self._receive()
        except EngineLost as error:
            raise ServeError(f"{self._version_folder} cannot be loaded: {error}") from None
        if isinstance(answer, Failure):
            raise ServeError(answer.reason)
        self._loaded = answer
        return answer

    def predict(self, inputs: Sequence[Inputs]) -> Scores:
        """Images, each float32 [size, size, 3], through the network. From one thread only. Raises EngineLost."""
        np.stack(inputs, out=self._shared[:len(inputs)])
        self._send(len(inputs))
        answer: Scores | Failure = self._receive()
        if isinstance(answer, Failure):
            raise RuntimeError(answer.reason)
        return answer

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Closes the socket and waits for the process to end; one that is still loading is killed."""
        if self._loaded is None:
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

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            raise EngineLost(self._end()) from None

    def _end(self) -> str:
        code = self._process.wait()
        return f"its engine's process {self.pid} ended with " + (
            f"signal {-code}" + (" (out of memory?)" if code == -9 else "") if code < 0 else f"exit code {code}")
