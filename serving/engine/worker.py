"""The process in which one version's network is loaded and computed; serving.engine.process starts it.

A separate process, so that loading a version does not slow down the one that answers (Python's lock, TensorFlow's
shared thread pool), and so that all of its memory is freed when it is unloaded.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import numpy as np

from serving.engine.process import Inputs, LoadRequest, Scores, batch_in
from serving.errors import ServeError
from voc_cls.console import import_tensorflow

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal with which a process ends when the thread that started it has ended: the event loop's."""


class Network(Protocol):
    """A loaded version, whatever computes it. It may raise any exception but ServeError and MemoryError."""

    @property
    def description(self) -> str:
        """Library, device, precision, threads and what was chosen by measuring."""

    def choose_sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Those of the batch sizes that are worth it, ascending from 1."""

    def predict(self, inputs: Inputs) -> Scores:
        """float32 [N, size, size, 3] through the network; of another size than its own, one image."""

    def explain(self, inputs: Inputs) -> Scores:
        """float32 [1, size, size, 3] → all outputs. The first call loads what computes them: a copy of the weights."""


def main(connection: Connection, memory: int) -> None:
    """Loads a version, then computes batches until the server closes the connection.

    `connection` receives a LoadRequest and answers with the network's description, the batch sizes in use and the
    seconds of the first batch of each; then it receives the number and size of images in the shared memory, whose file
    descriptor is `memory`, and whether to explain them, and answers Scores, and to 0 images None. An exception is an
    answer too.
    """
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they go to the whole process group; the server decides what to do
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # even in the middle of a batch
    request: LoadRequest = connection.recv()
    try:
        shared = np.frombuffer(mmap.mmap(memory, 0), np.float32)
        network, sizes, seconds = _load(request, shared)
    except ServeError as error:
        connection.send(error)
        return
    except MemoryError:
        connection.send(ServeError(f"{request.version_folder} does not fit into memory"))
        return
    connection.send((network.description, sizes, seconds))
    while True:
        try:
            images, size, explain = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            compute = network.explain if explain else network.predict
            connection.send(compute(batch_in(shared, images, size)) if images else None)
        except Exception as error:
            connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _load(request: LoadRequest, shared: Inputs) -> tuple[Network, tuple[int, ...], tuple[float, ...]]:
    """The network, the batch sizes in use, and how long the first batch of each took."""
    cores = os.sched_getaffinity(0)
    load = _engine(request)
    if request.background:
        _use_cores(set(sorted(cores)[:max(1, len(cores) // 2)]))
    network = load(request.version_folder, request.precision, request.threads)
    sizes = network.choose_sizes(request.batch_sizes)
    seconds = []
    for size in sizes:
        started = time.monotonic()
        columns = network.predict(batch_in(shared, size, request.image_size)).probabilities.shape[1]
        seconds.append(time.monotonic() - started)
        if columns != request.labels:
            raise ServeError(f"{request.version_folder} answers {columns} probabilities but names {request.labels} "
                             "labels in assets/voc_cls.json: export the model again with voc-export")
    for other in request.other_sizes:
        network.predict(batch_in(shared, 1, other))
    _use_cores(cores)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it: returns freed memory to the system
    if trim is not None:
        trim(0)
    return network, sizes, tuple(seconds)


def _engine(request: LoadRequest) -> Callable[[Path, str, int], Network]:
    """Imports the library; what it gives loads a version in a precision, for so many threads."""
    if request.engine == "openvino":
        from serving.engine.openvino import OpenVinoNetwork

        return OpenVinoNetwork
    import_tensorflow()
    from serving.engine.tensorflow import TensorFlowNetwork, start_threads

    start_threads(request.threads)  # sized by the cores of this moment, so before they are restricted
    return TensorFlowNetwork


def _use_cores(cores: set[int]) -> None:
    """Lets every thread of this process run on all of `cores`; threads keep the affinity they were started with."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # not waiting for TensorFlow's threads
