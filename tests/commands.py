"""The commands as a person runs them: installed scripts in processes of their own."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

BIN = Path(sys.executable).parent
"""Where the console scripts of this installation are."""


def command(program: str, *args: object, cwd: Path | None = None,
            **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs an installed command and returns how it ended, with its output."""
    return subprocess.run([str(BIN / program), *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=1800,
                          check=False, env={**os.environ, "COLUMNS": "100", **environment})


def command_in_process(program: str, *args: object, cwd: Path | None = None,
                       **environment: str) -> subprocess.CompletedProcess[str]:
    """As `command`, without the start of a process: for what does not depend on having one."""
    main = next(iter(importlib.metadata.entry_points(group="console_scripts", name=program))).load()
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    arguments = [program, *map(str, args)]
    code: object = 0
    with (mock.patch.object(sys, "argv", arguments), variables_set({"COLUMNS": "100", **environment}),
          contextlib.chdir(cwd or Path.cwd()), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr),
          signal_handlers_kept()):
        try:
            code = main() or 0
        except SystemExit as ending:
            code = ending.code or 0
    printed, errors = (stream.buffer.getvalue().decode("utf-8", "surrogateescape")  # type: ignore[attr-defined]
                       for stream in (stdout, stderr))
    return subprocess.CompletedProcess(arguments, int(str(code)), printed, errors)


@contextlib.contextmanager
def variables_set(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for a while. mock.patch.dict sets all others anew, which crashes TensorFlow's threads that
    read them at that moment."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def signal_handlers_kept() -> Iterator[None]:
    """Restores the handlers of SIGINT and SIGTERM at the end."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interruptible_children() -> Iterator[None]:
    """Processes that are started within obey SIGINT, which a shell's background jobs, and their children, ignore."""
    with signal_handlers_kept():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield


def shell(script: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `script` as a person would paste it, stopping at the first command that fails."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=cwd, capture_output=True, text=True,
                          timeout=1800, check=False, env={**os.environ, "PATH": path, "COLUMNS": "80", **environment})
