"""How the processes of a run find each other, and how they part."""

from __future__ import annotations

import atexit
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from voc_cls.errors import Interrupted, RunError, UsageError, VocError
from voc_cls.training.distribution import Distribution, data_parallel, mirrored

RANK_VARIABLES = ("VOC_RANK", "SLURM_PROCID", "JOB_COMPLETION_INDEX")
"""Where launchers put a process's number: voc-train's own variable, Slurm's, a Kubernetes Indexed Job's."""
COORDINATOR_VARIABLE = "VOC_COORDINATOR"
JOIN_SECONDS = 300
"""Until all processes must have come."""
HEARTBEAT_SECONDS = 60
"""Without a sign from a process, after which the others end. One whose connection breaks is noticed at once."""
LOST_ERRORS, LOST_WORDS = (RuntimeError, ValueError), "gloo|nccl|coordination service|connection"
"""What JAX raises (its JaxRuntimeError is a RuntimeError) when another process is gone."""


@contextmanager
def joined(hosts: int = 1, rank: int | None = None, coordinator: str | None = None) -> Iterator[Distribution]:
    """Finds the others; around a whole run, and before anything computes.

    rank and coordinator: by default from $VOC_RANK, $SLURM_PROCID or $JOB_COMPLETION_INDEX and from $VOC_COORDINATOR.
    With hosts = 1 all devices of this machine train. UsageError for what is missing; RunError where the others do not
    come within 5 minutes, or are lost later.
    """
    backend = keras.backend.backend()
    if hosts == 1 and backend == "tensorflow":
        import tensorflow as tf

        yield mirrored(tf.config.list_logical_devices("GPU"))
        return
    if hosts == 1:
        yield data_parallel(0, 1)
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
                       f"{' '.join(str(error).split())[:300]}") from error


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
