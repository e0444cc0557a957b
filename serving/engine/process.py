"""The server's end of an engine: starts its process, hands batches over through shared memory, ends it."""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from serving.config.config import ServeConfig
from serving.engine.engine import EngineLost, Inputs, Scores
from serving.engine.messages import Failure, Loaded, LoadRequest
from serving.errors import ServeError
from serving.models.metadata import ModelMetadata

END_SECONDS = 10
"""How long an engine that was hung up on may take to end by itself: a batch of the largest network."""


class EngineProcess:
    """See serving.engine.engine.Engine for the methods.

    Started by posix_spawn or vfork and exec of a new interpreter, never by fork alone: TensorFlow and gRPC do not
    survive that (grpc#16001, grpc#20967).
    """

    def __init__(self, version_folder: Path, metadata: ModelMetadata, config: ServeConfig, sizes: tuple[int, ...],
                 modest: bool) -> None:
        self.version_folder = version_folder
        shape = (sizes[-1], metadata.size, metadata.size, 3)
        memory = os.memfd_create("voc-serve-batch")
        os.truncate(memory, 4 * int(np.prod(shape)))
        ours, theirs = socket.socketpair()
        with theirs:
            # the environment is a copy: TensorFlow, being imported in another thread, changes C's own under exec
            self._process = subprocess.Popen(
                [sys.executable, "-m", "serving.engine.worker", str(theirs.fileno())], stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), memory), env=dict(os.environ))
        self._connection = Connection(ours.detach())
        self._shared = np.frombuffer(mmap.mmap(memory, 0), np.float32).reshape(shape)
        self._ready: Loaded | None = None
        self._send(LoadRequest(version_folder.absolute(), config.engine.precision, config.resolved_threads,
                   metadata.size,
                         len(metadata.labels), sizes, memory, modest))
        os.close(memory)

    @property
    def pid(self) -> int:
        """Of the engine's process."""
        return self._process.pid

    @property
    def description(self) -> str:
        """Library, device, precision and threads."""
        return self._ready.description if self._ready else "loading"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def on_end(self, told: Callable[[], object]) -> None:
        """Has `told` called in the running event loop when the process ends."""
        descriptor = os.pidfd_open(self.pid)

        def ended() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            told()

        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, ended)

    def wait_until_ready(self) -> Loaded:
        """Blocks until the version is loaded and every batch size warmed up. Raises ServeError."""
        try:
            answer = self._receive()
        except EngineLost as error:
            raise ServeError(f"{self.version_folder} cannot be loaded: {error}") from None
        if isinstance(answer, Failure):
            raise ServeError(answer.reason)
        assert isinstance(answer, Loaded)
        self._ready = answer
        return answer

    def predict(self, inputs: Sequence[Inputs]) -> Scores:
        """Pictures, each float32 [size, size, 3], through the network."""
        np.stack(inputs, out=self._shared[:len(inputs)])
        self._send(len(inputs))
        answer = self._receive()
        if isinstance(answer, Failure):
            raise RuntimeError(answer.reason)
        return Scores(*answer)

    def kill(self) -> None:
        """Ends the process at once; what it computes is lost."""
        self._process.kill()

    def close(self) -> None:
        """Hangs up and waits for the process to end; one that is still loading is killed."""
        if self._ready is None:
            self._process.kill()  # before hanging up: a thread may be waiting for its word
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
