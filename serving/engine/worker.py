"""The process in which one version's network is loaded and computed; serving.engine.process starts it and talks to it.

A process of its own, so that loading a version takes no time from the one that answers (Python's lock, TensorFlow's
shared thread pool), and so that its memory goes back as a whole when it is unloaded.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import numpy as np

from serving.engine.messages import Failure, Loaded, LoadRequest
from serving.errors import ServeError
from voc_cls.console import import_tensorflow

if TYPE_CHECKING:
    from serving.engine.tensorflow_network import TensorFlowNetwork

PARENT_INTERVAL = 1.0
"""Seconds between two looks at whether the server is still there."""


def main(connection: Connection) -> None:
    """Loads, says Ready or Failed, then answers batch sizes with scores until the server hangs up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they go to the whole group; when to stop is the server's to say
    threading.Thread(target=_leave_with_the_server, args=(os.getppid(),), daemon=True).start()
    order: LoadRequest = connection.recv()
    try:
        shared = np.frombuffer(mmap.mmap(order.memory, 0), np.float32).reshape(-1, order.size, order.size, 3)
        network, ready = _load(order, shared)
    except ServeError as error:
        connection.send(Failure(str(error)))
        return
    except MemoryError:
        connection.send(Failure(f"{order.version_folder} does not fit into memory"))
        return
    connection.send(ready)
    while True:
        try:
            pictures = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            scores = network.predict(shared[:pictures])
            connection.send((scores.probabilities, scores.logits))
        except Exception as error:
            connection.send(Failure(f"{type(error).__name__}: {error}"))


def _load(order: LoadRequest, shared: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> tuple[TensorFlowNetwork,
                                                                                                  Loaded]:
    """The network, after one batch of each size: an engine prepares itself for every size anew."""
    import_tensorflow()
    from serving.engine.tensorflow_network import Precision, TensorFlowNetwork, start_threads

    cores = os.sched_getaffinity(0)
    start_threads(order.threads)  # as many as there are cores at this moment, so before it becomes modest
    if order.modest:
        _use_cores(set(sorted(cores)[:max(1, len(cores) // 2)]))
    network = TensorFlowNetwork(order.version_folder, Precision(order.precision), order.threads)
    seconds = []
    for size in order.batch_sizes:
        started = time.monotonic()
        columns = network.predict(shared[:size]).probabilities.shape[1]
        seconds.append(time.monotonic() - started)
        if columns != order.labels:
            raise ServeError(f"{order.version_folder} answers {columns} probabilities but names {order.labels} labels "
                             "in assets/voc_cls.json: export the model again with voc-export")
    _use_cores(cores)
    _give_back_memory()
    return network, Loaded(network.description, tuple(seconds))


def _use_cores(cores: set[int]) -> None:
    """Lets every thread of this process run on all of `cores`; TensorFlow's have the affinity they were born with."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)


def _give_back_memory() -> None:
    """Returns to the system what loading has left behind in the allocator; only glibc has the call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _leave_with_the_server(parent: int) -> None:
    """Ends this process when the server has been killed, whatever it is doing."""
    while os.getppid() == parent:
        time.sleep(PARENT_INTERVAL)
    os._exit(1)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
    sys.stdout.flush()
    os._exit(0)  # TensorFlow's threads need no farewell
