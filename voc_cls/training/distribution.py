"""Which devices train together: those of one process, or of several processes on several hosts.

Every process runs the same program; a Distribution says where they differ. Only the chief (rank 0) reads and writes
the run folder and prints; what it read goes to the others by `broadcast`. What is predicted is divided by `share` and
put together again by `gather`, so that every process has all logits, and callbacks decide the same everywhere.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
import numpy.typing as npt

from voc_cls.errors import RunError, UsageError, VocError

CHUNK = 64 << 20
"""Bytes broadcast at a time: what is sent is held several times over."""

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
