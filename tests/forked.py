"""Commands in processes that are forked from one that has imported TensorFlow and Keras: they start in a moment.

What runs is the command's own main(), in a process of its own with its own signals and exit code; only the seconds of
importing are saved.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing import forkserver, reduction
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.preloaded"])
FORKS_OF: Any = forkserver._forkserver  # type: ignore[attr-defined]
"""The process that forks them; multiprocessing has no public name for it."""


HERE = Path(__file__).parent.parent


def start_forking() -> None:
    """Starts that process, in this project's folder: elsewhere `tests` can be another package's, and stays so."""
    with contextlib.chdir(HERE):
        FORKS_OF.ensure_running()


class ForkedProcess:
    """What commands and their tests use of subprocess.Popen."""

    def __init__(self, target: Callable[..., None], *args: Any) -> None:
        start_forking()
        self._process = FORKS.Process(target=target, args=args)
        self._process.start()
        self._lock = threading.Lock()  # multiprocessing reads an exit code once
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        with self._lock:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        multiprocessing.connection.wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("a forked process", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start_command(program: str, *args: object, output: Path, errors: Path) -> ForkedProcess:
    """An installed command, writing to these files."""
    return ForkedProcess(_run_command, [program, *map(str, args)], (str(output), str(errors)), dict(os.environ))


def _run_command(arguments: list[str], streams: tuple[str, str], environment: dict[str, str]) -> None:
    become(arguments, streams, environment)
    next(iter(importlib.metadata.entry_points(group="console_scripts", name=arguments[0]))).load()()


def become(arguments: Sequence[str], streams: Sequence[str | Descriptor], environment: dict[str, str]) -> None:
    """Turns a forked process into one that a shell has started; streams: of its stdout and its stderr."""
    for descriptor, stream in enumerate(streams, 1):
        opened = os.open(stream, os.O_WRONLY | os.O_CREAT, 0o600) if isinstance(stream, str) else stream.number
        os.dup2(opened, descriptor)
        os.close(opened)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(arguments)


class Descriptor:
    """A file descriptor for another process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self.number),)  # type: ignore[attr-defined]


def _received(duplicate: Any) -> Descriptor:
    return Descriptor(duplicate.detach())
