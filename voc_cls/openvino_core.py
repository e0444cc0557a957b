"""OpenVINO without what a process does not need, its one Core, and the signal stack that its plugin must leave."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from functools import cache
from typing import Any

from voc_cls.console import hidden


class SignalStack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def import_openvino(*, whole: bool = False) -> Any:
    """Imports OpenVINO without what reports its use over the network, and without its converters, which take a third
    of the time. whole: with them; a process that has imported it without them cannot get them any more."""
    with hidden(["openvino_telemetry"] if whole else ["openvino_telemetry", "openvino.tools"]):
        import openvino
    return openvino


@cache
def openvino_core() -> Any:
    """The Core that all parts of the process share; its plugin for CPUs is loaded. `import_openvino` comes first."""
    import openvino

    with signal_stack_kept():
        core = openvino.Core()
        core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
    return core


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Afterwards, signals have the stack again that they had before.

    Where the processor has AMX, each Core that loads its plugin gives the thread a stack for signals, and frees it in
    the end. After two Cores, the one that was freed first can be what is left (2026.4): the next signal, such as
    SIGTERM, then ends the process by SIGSEGV. Python's handlers run on that stack too.
    """
    own, libc = SignalStack(), ctypes.CDLL(None)
    libc.sigaltstack(None, ctypes.byref(own))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(own), None)
