"""voc-serve: from the command line to a server, and how the process ends."""

from __future__ import annotations

import contextlib
import os
import sys

from voc_cls.console import hold_standard_streams, run


def main() -> None:
    """Entry point of voc-serve."""
    hold_standard_streams()
    code = run("voc-serve", _main)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # a full disk
            stream.flush()
    # A thread may still be inside TensorFlow, loading or computing what nobody waits for any more; the interpreter's
    # own way out would wait for it.
    os._exit(code)


def _main() -> None:
    from serving.config.cli import PROGRAM, to_yaml
    from serving.config.config import ServeConfig

    settings = PROGRAM.read(sys.argv[1:], os.environ)
    start, config = settings.values, settings.config(ServeConfig)
    with settings.explaining():
        if start["print_config"]:
            print(to_yaml(settings), end="")
        elif start["check"]:
            from serving.config.check import check

            check(config)
        else:
            import asyncio

            from serving.server import serve

            asyncio.run(serve(config))
