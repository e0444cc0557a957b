"""The processes that decode: a template that has imported the decoder, and workers that it forks in milliseconds.

Neither has TensorFlow, gRPC or a thread in it, so forking is safe. A worker, whose image is not to be trusted, answers
with numbers, a sentence and pixels in shared memory, never with an object.
"""

from __future__ import annotations

import ctypes
import gc
import math
import mmap
import os
import pickle
import resource
import signal
import socket
import struct
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from voc_cls.image_decoder import Inputs, Preprocessing, decode, opencv, prepare
from voc_cls.image_header import ImageError, image_header, image_work
from voc_cls.model_metadata import LARGEST_SIZE

RESULT_BYTES = 4 * 3 * LARGEST_SIZE**2
"""The largest result."""
SLOTS, SLOT_BYTES = 16, 1 << 21
"""Places for results that the server need not copy, as those of networks of up to 418 × 418 pixels."""
MEMORY_BYTES = SLOTS * SLOT_BYTES + RESULT_BYTES
"""Size of the memory in which a worker leaves its results, larger ones behind the slots; only what is written takes
any."""
JOB = struct.Struct("<QIQ")
"""Where in that memory the result is to begin, and bytes of the pickled DecodeJob and of the image after it."""
DONE, MUCH = b"done", b"much"
"""What a worker answers, in one message: the pixels are there; the image is more work than the job allows. Else a
sentence says why the image cannot be decoded. A worker's first message is its process id."""
MESSAGE_BYTES = 1000
NICE = 10
"""A decoder gets a tenth of the processor time that the server gets where both want it: under overload most calls are
to be refused, and at once."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class DecodeJob:
    """What to do with the bytes that follow."""

    wanted: Preprocessing
    max_pixels: int
    max_passes: float
    """Most work that may be begun, see ImageWork.passes."""
    shape: tuple[int, ...]
    """Of pixels that are decoded already; empty for an image file."""

    def result(self, memory: mmap.mmap, begin: int) -> Inputs:
        """The part of a memory that begins there, as what the network takes."""
        shape = (self.wanted.size, self.wanted.size, 3)
        return np.frombuffer(memory, np.float32, math.prod(shape), begin).reshape(shape)


def main(control: socket.socket, memory: int) -> None:
    """The template: forks a worker for each (socket, shared memory) that it is sent, until the server has gone.

    `memory`: bytes that a worker may take.
    """
    import PIL.Image

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they go to the whole process group; the server decides when to stop
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    os.nice(NICE)
    if (cv2 := opencv()) is not None:
        cv2.setNumThreads(1)
    PIL.Image.init()
    PIL.Image.MAX_IMAGE_PIXELS = None  # image_work has the limit
    gc.freeze()  # or the first collection in a worker would copy all that it shares with the others
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not message:
            os.killpg(0, signal.SIGKILL)  # itself and its workers, a group of their own
        if os.fork() == 0:
            control.close()
            try:
                _work(socket.socket(fileno=descriptors[0]), descriptors[1], memory)
            finally:
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _work(connection: socket.socket, descriptor: int, memory: int) -> None:
    """A worker: does the jobs of one connection until it is closed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libjpeg writes there what it thinks of an image
    limit = memory + 1024 * int(Path("/proc/self/status").read_text().partition("VmSize:")[2].split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    shared = mmap.mmap(descriptor, 0)
    unpickled = lru_cache(pickle.loads)
    connection.sendall(str(os.getpid()).encode())
    while head := connection.recv(JOB.size, socket.MSG_WAITALL):
        begin, *sizes = JOB.unpack(head)
        packed, content = (connection.recv(size, socket.MSG_WAITALL) for size in sizes)
        try:
            job: DecodeJob = unpickled(packed)
            answer = DONE if _decode(job, content, job.result(shared, begin)) else MUCH
        except ImageError as error:
            answer = str(error).encode(errors="replace")
        except MemoryError:
            answer = f"a picture of {len(content)} bytes that needs too much memory".encode()
        except Exception as error:  # a decoder that stumbles over an image fails on that image only
            answer = f"a picture of {len(content)} bytes that cannot be decoded ({error})".encode(errors="replace")
        connection.sendall(answer[:MESSAGE_BYTES])


def _decode(job: DecodeJob, content: bytes, result: Inputs) -> bool:
    """Writes what the network takes; False if that is more work than the job allows."""
    if job.shape:
        prepare(np.frombuffer(content, np.uint8).reshape(job.shape), job.wanted, result)
        return True
    header = image_header(content)
    if job.max_passes < header.width * header.height:
        return False  # before the structure is looked at, which takes time too
    work = image_work(content, job.max_pixels)
    if job.max_passes < work.passes:
        return False
    prepare(decode(work), job.wanted, result)
    return True


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
