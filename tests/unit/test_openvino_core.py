from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, gc, os, signal
from voc_cls.openvino_core import SignalStack, import_openvino, openvino_core, signal_stack_kept
openvino = import_openvino()

def stack():
    found = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found.start, found.flags

before = stack()
core = openvino_core()
assert stack() == before and openvino_core() is core
with signal_stack_kept():
    cores = [openvino.Core() for _ in range(3)]
    for other in cores:
        other.get_property("CPU", "FULL_DEVICE_NAME")
    del cores[0], other  # not the one that was made last
    gc.collect()
    cores.clear()
    gc.collect()
assert stack() == before
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
os.kill(os.getpid(), signal.SIGTERM)
assert heard
print("alive")
"""


def test_openvino_leaves_signals_the_stack_that_they_had():
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
