"""voc-serve in processes that are forked, as tests/forked.py does, and so are their engines.

What runs is voc-serve's own main() and the engine's own worker. Some tests of test_disasters.py start servers as users
do.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.forked import FORKS_OF, Descriptor, ForkedProcess, become, start_forking


def start_server(arguments: Sequence[str], output: Path, errors: Path,
                 pipes: tuple[int, int] | None = None) -> ForkedProcess:
    """`voc-serve` with these arguments, writing to these files, or to pipes that are open here."""
    start_forking()
    streams = tuple(map(Descriptor, pipes)) if pipes else (str(output), str(errors))
    return ForkedProcess(_run_server, ["voc-serve", *arguments], str(output), streams, dict(os.environ),
                         FORKS_OF._forkserver_address)


def _run_server(arguments: list[str], output: str, streams: tuple[str | Descriptor, ...],
                environment: dict[str, str], address: str) -> None:
    become(arguments, streams, environment)
    # the worker is forked from the same process: multiprocessing would start another one for the processes of a process
    FORKS_OF._forkserver_address, FORKS_OF.ensure_running = address, lambda: None
    ForkedWorkers.started = Path(output)
    from serving.cli import main
    from serving.decoding import pool
    from serving.engine import process

    process.subprocess = pool.subprocess = ForkedWorkers  # type: ignore[assignment]
    main()


def engines_file(output: str | Path) -> Path:
    """Where a forked server notes the process ids of its engines, which are no children of it.

    Those of the processes that fork its decoders are in a file of the same name with the suffix .decoders.
    """
    return Path(output).with_suffix(".engines")


class ForkedWorkers:
    """What serving.engine.process and serving.decoding.pool use of the module subprocess."""

    started: Path | None = None
    DEVNULL = subprocess.DEVNULL
    TimeoutExpired = subprocess.TimeoutExpired

    @staticmethod
    def Popen(program: list[str], pass_fds: tuple[int, ...], **_: Any) -> ForkedProcess:
        """Instead of `python -m serving.engine.worker CONNECTION MEMORY`, or serving.decoding.worker."""
        run, more, suffix = {"serving.engine.worker": (_run_worker, [], ".engines"),
                             "serving.decoding.worker": (_run_decoders, [int(program[-1])], ".decoders")}[program[2]]
        process = ForkedProcess(run, *map(Descriptor, pass_fds), *more)
        if ForkedWorkers.started is not None:
            with ForkedWorkers.started.with_suffix(suffix).open("a") as file:
                file.write(f"{process.pid}\n")
        return process


def _run_decoders(control: Descriptor, memory: int) -> None:
    from serving.decoding.worker import main

    os.setsid()
    main(socket.socket(fileno=control.number), memory)


def _run_worker(connection: Descriptor, memory: Descriptor) -> None:
    from serving.engine.worker import main

    main(Connection(connection.number), memory.number)
    os._exit(0)
