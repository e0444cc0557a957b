"""The Ray cluster that a command computes on, and the one that it starts where there is none."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from voc_cls.console import quiet_stderr, sigterm_kept
from voc_cls.errors import RunError


@contextlib.contextmanager
def connected(threads: int = 1, log_to_driver: bool = False, **environment: str) -> Iterator[Any]:
    """The module ray, connected to the cluster of $RAY_ADDRESS or to one on this machine (`ray start`); without either,
    to one of this machine's cores alone, which ends with the block.

    What Ray itself raises within becomes a RunError; ModuleNotFoundError without the extra `ray`.

    Args:
        threads: That TensorFlow has in each worker.
        log_to_driver: Whether what workers print is printed here.
        environment: Variables of the workers.
    """
    environment = {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "2"} | environment
    if backend := os.environ.get("KERAS_BACKEND"):
        environment.setdefault("KERAS_BACKEND", backend)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else a warning for every task without a GPU
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else an error for what Ray Data itself does to actors
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # not its plans
    try:
        try:
            with sigterm_kept(), quiet_stderr():
                ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=log_to_driver,
                         runtime_env={"env_vars": environment})
        except Exception as error:  # where it cannot start, it has no kind of its own
            raise ConnectionError(*error.args) from error
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
    except SystemError as error:  # what a signal's exception becomes in Ray's C++
        raise error.__cause__ or error from None
    except (ConnectionError, ray.exceptions.RayError) as error:
        last = str(error).strip().splitlines()[-1:]
        raise RunError(f"Ray: {' '.join(last) or type(error).__name__}; `ray status` shows the cluster, and "
                       "/tmp/ray/session_latest/logs of its machines what happened") from error
    finally:
        ray.shutdown()
