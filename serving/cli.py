"""voc-serve: from the command line to a server, and how the process ends."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from serving.telemetry.foreign_lines import ForeignLines
from voc_cls.config import flag_value
from voc_cls.console import run


def main() -> None:
    hold_standard_streams()
    faulthandler.enable()
    foreign_lines = ForeignLines()
    if _says_json(sys.argv[1:], os.environ):
        foreign_lines.start()
    try:
        code = run("voc-serve", partial(_main, foreign_lines))
    except Exception:
        traceback.print_exc()
        code = 1
    finally:
        foreign_lines.close()
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


def _says_json(args: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether the log is to be JSON: known before anything is checked, so that errors in flags are JSON too."""
    if chosen := flag_value(args, "--log-format") or environment.get("VOC_SERVE_LOG_FORMAT"):
        return chosen == "json"
    file = flag_value(args, "--config") or environment.get("VOC_SERVE_CONFIG")
    try:
        return bool(file and re.search(r"^\s*log_format:\s*json\b", Path(file).read_text(), re.MULTILINE))
    except (OSError, UnicodeDecodeError):
        return False


def _main(foreign_lines: ForeignLines) -> None:
    from serving.config.cli import PROGRAM, to_yaml
    from serving.config.config import ServeConfig
    from serving.config.models import model_settings

    def read_again() -> ServeConfig:
        again = PROGRAM.read(sys.argv[1:], os.environ)
        with again.explaining():
            config = again.config(ServeConfig)
            model_settings(config.models)  # for its errors
        return config

    settings = PROGRAM.read(sys.argv[1:], os.environ)
    if settings.values["log_format"] == "json":
        foreign_lines.start()
    start, config = settings.values, settings.config(ServeConfig)
    with settings.explaining():
        if start["print_config"]:
            print(to_yaml(settings), end="")
        elif start["check"]:
            from serving.check import check

            check(config)
        else:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server can follow it
            import asyncio

            from serving.server import serve

            foreign_lines.take_stdout()
            asyncio.run(serve(config, read_again, *foreign_lines.streams))
