"""voc-serve: from the command line to a server, and how the process ends."""

from __future__ import annotations

import contextlib
import os
import sys

from voc_cls.console import run


def main() -> None:
    hold_standard_streams()
    code = run("voc-serve", _main)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # a full disk
            stream.flush()
    # A thread may still be inside TensorFlow, loading or computing a result that is no longer needed; the
    # interpreter's own exit would wait for it.
    os._exit(code)


def hold_standard_streams() -> None:
    """Puts /dev/null where a standard stream is closed: else a socket gets its number, and what is printed with it.

    To be called before anything is opened.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, so most often the very one
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # as Python has it where the stream was closed
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _main() -> None:
    from serving.config.cli import PROGRAM, to_yaml
    from serving.config.config import ServeConfig

    settings = PROGRAM.read(sys.argv[1:], os.environ)
    start, config = settings.values, settings.config(ServeConfig)
    with settings.explaining():
        if start["print_config"]:
            print(to_yaml(settings), end="")
        elif start["check"]:
            from serving.check import check

            check(config)
        else:
            import asyncio

            from serving.server import serve

            asyncio.run(serve(config))
