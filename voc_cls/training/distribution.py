"""Which devices train together, those of one process or of several processes on several hosts, and how these find
each other.

Every process runs the same program; a Distribution says where they differ. Only the chief (rank 0) reads and writes
the run folder and prints; what it read goes to the others by `broadcast`. What is predicted is divided by `share` and
put together again by `gather`, so that every process has all logits, and callbacks decide the same everywhere.
"""

from __future__ import annotations

import atexit
import os
import pickle
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
import numpy.typing as npt

from voc_cls.errors import Interrupted, RunError, UsageError, VocError, reason

CHUNK = 64 << 20
"""Bytes broadcast at a time: what is sent is held several times over."""
RANK_VARIABLES = ("VOC_RANK", "SLURM_PROCID", "JOB_COMPLETION_INDEX")
"""Where launchers put a process's number: voc-train's own variable, Slurm's, a Kubernetes Indexed Job's."""
COORDINATOR_VARIABLE = "VOC_COORDINATOR"
JOIN_SECONDS = 300
"""Until all processes must have come."""
HEARTBEAT_SECONDS = 60
"""Without a sign from a process, after which the others end. One whose connection breaks is noticed at once."""
LOST_ERRORS, LOST_WORDS = (RuntimeError, ValueError), "gloo|nccl|coordination service|connection"
"""What JAX raises (its JaxRuntimeError is a RuntimeError) when another process is gone."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Distribution:
    """`hosts` processes of which this one is `rank`; `replicas` devices in all of them together take part of a batch.

    backing: the tf.distribute.Strategy or keras.distribution.Distribution that does it, None for a single device.
    """

    rank: int = 0
    hosts: int = 1
    replicas: int = 1
    backing: Any = None

    @property
    def is_chief(self) -> bool:
        """Whether this process prints and writes files."""
        return self.rank == 0

    @property
    def description(self) -> str:
        """For the start of the run; empty for a single device."""
        if self.replicas == 1:
            return ""
        hosts = f"{self.hosts} processes, " if self.hosts > 1 else ""
        return f"{hosts}{self.replicas} devices, each with its part of every batch"

    def scope(self) -> AbstractContextManager[Any]:
        """What is trained is built, compiled and fitted inside."""
        return nullcontext() if self.backing is None else self.backing.scope()

    def check(self, batch_size: int, accumulate: int) -> None:
        """UsageError where these devices cannot train so."""
        if batch_size % self.replicas:
            raise UsageError(f"`batch_size` {batch_size}: must be a multiple of the {self.replicas} devices that share "
                             "it; choose another size, or hide devices with CUDA_VISIBLE_DEVICES")
        if accumulate > 1 and self.replicas > 1 and keras.backend.backend() == "tensorflow":
            # Keras 3.15 adds gradients up inside tf.cond, where tf.distribute allows no exchange between replicas
            raise UsageError(f"`accumulate` {accumulate}: not on several devices with the TensorFlow backend; set "
                             "KERAS_BACKEND=jax, or choose a larger `batch_size`")

    @contextmanager
    def alone(self, model: keras.Model) -> Iterator[None]:
        """Inside, `model`, which was built in `scope`, computes on this process's first device, without the others.

        On the TensorFlow backend nothing changes: there `predict` divides its batches among the devices by itself.
        """
        if not isinstance(self.backing, keras.distribution.DataParallel):
            yield
            return
        # Keras has no public way to take a variable out of its distribution, which is kept in `_layout` and `_value`
        spread = [(variable, variable.value, variable._layout) for variable in model.variables]
        around = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
        try:
            for variable, value, _ in spread:
                local = value.addressable_data(0).copy()  # a copy: predict donates its buffers
                variable._layout, variable._value = None, local
            yield
        finally:
            for variable, value, layout in spread:
                variable._layout, variable._value = layout, value
            keras.distribution.set_distribution(around)

    def share(self, count: int) -> slice:
        """Which of `count` things, such as pictures to predict, are this process's: evenly, in order."""
        return slice(count * self.rank // self.hosts, count * (self.rank + 1) // self.hosts)

    def gather(self, rows: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
        """The rows of all processes, in their order: [count, …] from each one's `share(count)`."""
        if self.hosts == 1:
            return rows
        from jax.experimental import multihost_utils

        most = -(-count // self.hosts)
        padded = np.zeros((most, *rows.shape[1:]), rows.dtype)
        padded[:len(rows)] = rows
        shares = [Distribution(rank, self.hosts).share(count) for rank in range(self.hosts)]
        parts = multihost_utils.process_allgather(padded)
        return np.concatenate([part[:share.stop - share.start] for part, share in zip(parts, shares, strict=True)])

    def broadcast(self, produce: Callable[[], Value]) -> Value:
        """What `produce` returns or raises on the chief, everywhere; the others wait and do not call it.

        Raises the VocError that it raises; other errors end the chief, and with it the others.
        """
        if self.hosts == 1:
            return produce()
        message = b""
        if self.is_chief:
            try:
                message = pickle.dumps((produce(), None), pickle.HIGHEST_PROTOCOL)
            except VocError as error:
                message = pickle.dumps((None, error))
        received: tuple[Value, VocError | None] = pickle.loads(self._send(message))
        value, problem = received
        if problem is not None:
            raise problem
        return value

    def _send(self, message: bytes) -> bytes:
        from jax.experimental.multihost_utils import broadcast_one_to_all

        size = int.from_bytes(broadcast_one_to_all(np.frombuffer(len(message).to_bytes(8), np.uint8)).tobytes())
        buffer = np.zeros(size, np.uint8)
        if self.is_chief:
            buffer[:] = np.frombuffer(message, np.uint8)
        for start in range(0, size, CHUNK):
            part = buffer[start:start + CHUNK]
            part[:] = broadcast_one_to_all(part)
        return buffer.tobytes()

    def load_weights(self, model: keras.Model, path: Path) -> None:
        """Gives `model` the weights in a .weights.h5 file that only the chief needs to see."""
        if self.hosts == 1:
            model.load_weights(path)
            return

        def read() -> list[npt.NDArray[Any]]:
            with self.alone(model):
                model.load_weights(path)
                weights: list[npt.NDArray[Any]] = model.get_weights()
            return weights

        model.set_weights(self.broadcast(read))

    def check_same(self, **values: object) -> None:
        """RunError on all processes where one of `values`, by name, is not what it is on the chief."""
        expected = self.broadcast(lambda: values)
        same = np.array([expected[name] == value for name, value in values.items()])
        of_all = self.gather(same[None], self.hosts)
        if of_all.all():
            return
        rank, number = np.argwhere(~of_all)[0]
        name = list(values)[number].replace("_", " ")
        raise RunError(f"rank {rank} has other {name} than rank 0; give every process the same flags and files")

    def stop_reached(self, step: int) -> bool:
        """After SIGTERM on any of several hosts: whether `step` is the one all of them save and stop at.

        Has to be called after every step, and listens to SIGTERM itself: no other handler may be installed.
        """
        if self.hosts == 1:
            return False
        from jax.experimental.multihost_utils import reached_preemption_sync_point

        return bool(reached_preemption_sync_point(step))


SINGLE = Distribution()
"""One process on one device."""


def mirrored(devices: list[Any]) -> Distribution:
    """One process on several TensorFlow devices; on fewer than two of them nothing is distributed."""
    if len(devices) < 2:
        return SINGLE
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    return Distribution(replicas=len(devices), backing=strategy)


def data_parallel(rank: int, hosts: int) -> Distribution:
    """All JAX devices of all processes; on a single device nothing is distributed."""
    import jax

    if jax.device_count() == 1:
        return SINGLE
    return Distribution(rank, hosts, jax.device_count(), keras.distribution.DataParallel(auto_shard_dataset=False))


@contextmanager
def joined(hosts: int = 1, rank: int | None = None, coordinator: str | None = None) -> Iterator[Distribution]:
    """Finds the others; around a whole run, and before anything computes. With hosts = 1 all devices of this machine
    train. UsageError for what is missing; RunError where the others do not come in time, or are lost later."""
    backend = keras.backend.backend()
    if hosts == 1:
        import tensorflow as tf

        yield mirrored(tf.config.list_logical_devices("GPU")) if backend == "tensorflow" else data_parallel(0, 1)
        return
    if backend != "jax":
        raise UsageError(f"`hosts` {hosts}: several processes train together on Keras' JAX backend, this is "
                         f"{backend}; set KERAS_BACKEND=jax on every host")
    number = rank_of(rank, hosts, os.environ)
    connect(address_of(coordinator, os.environ), hosts, number)
    distribution = data_parallel(number, hosts)
    try:
        yield distribution
    except Interrupted:  # on all of them
        raise
    except BaseException as error:
        _leave_at_once(error.exit_code if isinstance(error, VocError) else 1)
        text = " ".join(str(error).rpartition("Error dispatching computation: ")[2].split())
        if not isinstance(error, LOST_ERRORS) or not re.search(LOST_WORDS, text, re.IGNORECASE):
            raise
        raise RunError(f"rank {distribution.rank} lost the others ({text[:200]}); see what they say, then start all of "
                       "them again with `resume`") from error


def _leave_at_once(code: int) -> None:
    """When Python ends, with its exit code: JAX would first wait for the others, who wait for this process."""
    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(leave)


def rank_of(given: int | None, hosts: int, environment: Mapping[str, str]) -> int:
    """This process's number, from the flag or what its launcher set."""
    where, text = "`rank`", "" if given is None else str(given)
    for name in RANK_VARIABLES:
        if not text and environment.get(name):
            where, text = f"${name}", environment[name]
    if not text:
        raise UsageError(f"`hosts` {hosts}: which of them is this? give `rank`, or set {', '.join(RANK_VARIABLES)}")
    if not text.isdecimal() or int(text) >= hosts:
        raise UsageError(f"{where} {text}: must be a whole number from 0 to {hosts - 1}, with `hosts` {hosts}")
    return int(text)


def address_of(given: str | None, environment: Mapping[str, str]) -> str | None:
    """HOST:PORT of rank 0; None below Slurm, where JAX finds it in the job's list of nodes."""
    address = given or environment.get(COORDINATOR_VARIABLE)
    if address is None and environment.get("SLURM_JOB_ID"):
        return None
    where = f"`coordinator` {given}" if given else f"${COORDINATOR_VARIABLE} {address}"
    if address is None:
        raise UsageError(f"`hosts`: where is rank 0? give `coordinator` HOST:PORT or set {COORDINATOR_VARIABLE}, the "
                         "same for every process")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"{where}: must be HOST:PORT, such as node01:12345")
    return address


def connect(address: str | None, hosts: int, rank: int) -> None:
    """Waits until all processes have come to `address`, which is rank 0's."""
    import jax

    if rank > 0 and address is not None:
        await_chief(address, rank)
    settings: Any = jax.config
    settings.update("jax_cpu_collectives_implementation", "gloo")  # has no effect on accelerators
    try:
        jax.distributed.initialize(address, hosts, rank, initialization_timeout=JOIN_SECONDS,
                                   heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        raise RunError(f"rank {rank} cannot join the others at {address or 'the first node of the Slurm job'}: "
                       f"{reason(error)}") from error


def await_chief(address: str, rank: int) -> None:
    """Waits until something listens at `address`; RunError where it never does, where JAX would abort the process."""
    host, _, port = address.rpartition(":")
    last = time.monotonic() + JOIN_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:  # rank 0 may not have started, nor its name be known yet
            if time.monotonic() > last:
                raise RunError(f"rank {rank} does not reach rank 0 at {address} ({error.strerror or error}); is it "
                               f"running, and the port open? all must start within {JOIN_SECONDS} s") from error
            time.sleep(1)
        else:
            return
