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
import threading
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import numpy as np

from serving.engine.process import Failure, Inputs, Loaded, LoadRequest
from serving.errors import ServeError
from voc_cls.console import import_tensorflow

if TYPE_CHECKING:
    from serving.engine.tensorflow import TensorFlowNetwork

PARENT_INTERVAL = 1.0
"""Seconds between two checks that the server still exists."""


def main(connection: Connection, memory: int) -> None:
    """Loads a version, then computes batches until the server closes the connection.

    Args:
        connection: receives a LoadRequest, answers Loaded or Failure; then receives numbers of images in the shared
            memory, answers Scores or Failure, and to 0 None.
        memory: file descriptor of the shared memory.
    """
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they go to the whole process group; the server decides what to do
    threading.Thread(target=_end_with_server, args=(os.getppid(),), daemon=True).start()
    request: LoadRequest = connection.recv()
    try:
        shared = np.frombuffer(mmap.mmap(memory, 0), np.float32).reshape(request.shared_shape)
        network, loaded = _load(request, shared)
    except ServeError as error:
        connection.send(Failure(str(error)))
        return
    except MemoryError:
        connection.send(Failure(f"{request.version_folder} does not fit into memory"))
        return
    connection.send(loaded)
    while True:
        try:
            images = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            connection.send(network.predict(shared[:images]) if images else None)
        except Exception as error:
            connection.send(Failure(f"{type(error).__name__}: {error}"))


def _load(request: LoadRequest, shared: Inputs) -> tuple[TensorFlowNetwork, Loaded]:
    """The network, after one batch of each size: TensorFlow optimises its graph for every size."""
    import_tensorflow()
    from serving.engine.tensorflow import TensorFlowNetwork, start_threads

    cores = os.sched_getaffinity(0)
    start_threads(request.threads)  # sized by the cores of this moment, so before they are restricted
    if request.background:
        _use_cores(set(sorted(cores)[:max(1, len(cores) // 2)]))
    network = TensorFlowNetwork(request.version_folder, request.precision, request.threads)
    seconds = []
    for size in request.batch_sizes:
        started = time.monotonic()
        columns = network.predict(shared[:size]).probabilities.shape[1]
        seconds.append(time.monotonic() - started)
        if columns != request.labels:
            raise ServeError(f"{request.version_folder} answers {columns} probabilities but names {request.labels} "
                             "labels in assets/voc_cls.json: export the model again with voc-export")
    _use_cores(cores)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it: returns freed memory to the system
    if trim is not None:
        trim(0)
    return network, Loaded(network.description, tuple(seconds))


def _use_cores(cores: set[int]) -> None:
    """Lets every thread of this process run on all of `cores`; threads keep the affinity they were started with."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)


def _end_with_server(parent: int) -> None:
    """Ends this process when the server has been killed, even in the middle of a batch."""
    while os.getppid() == parent:
        time.sleep(PARENT_INTERVAL)
    os._exit(1)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # not waiting for TensorFlow's threads
