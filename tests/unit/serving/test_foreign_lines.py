"""With JSON logs each line of stdout and stderr is an object, whoever printed it, and however the process ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

HEAD = """
import ctypes, os, subprocess, sys, time, warnings
from serving.telemetry.foreign_lines import ForeignLines
lines = ForeignLines()
lines.start()
lines.start()
lines.take_stdout()
"""


def run(program: str, **streams: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HEAD + program], text=True, encoding="utf-8",
                            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams})


def objects(text: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in text.splitlines()]


def told(program: str, code: int = 0) -> tuple[list[tuple[str, str]], list[str]]:
    """(level, message) of what the program prints on stderr, and the messages of stdout."""
    process = run(program)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    for entry in (*objects(out), *objects(err)):
        assert set(entry) == {"time", "level", "logger", "message"}
    assert {entry["logger"] for entry in objects(out)} <= {"stdout"}
    return [(entry["level"], entry["message"]) for entry in objects(err)], [entry["message"] for entry in objects(out)]


def test_c_libraries_python_and_child_processes_print_objects() -> None:
    errors, output = told("""
print("a line")
ctypes.CDLL(None).puts(b"from C")
ctypes.CDLL(None).fflush(None)
warnings.warn("old")
os.write(2, b"Corrupt JPEG data: \\xff\\n\\n   two\\tparts")
os.write(2, b" of a line\\n")
subprocess.run([sys.executable, "-c", "import sys; print('child', file=sys.stderr)"])
os.write(2, b"without an end")
lines.close()
""")
    assert output == ["from C", "a line"] or output == ["a line", "from C"]
    messages = [message for _, message in errors]
    assert "UserWarning: old" in messages[0]
    assert messages[-4:] == ["Corrupt JPEG data: \\xff", "two\tparts of a line", "child", "without an end"]


@pytest.mark.parametrize(("line", "level"), [
    ("I0000 00:00:1795871360.032165    1758 cudart_stub.cc:31] Could not find cuda", "INFO"),
    ("E0000 00:00:1795871360.032165    1758 add_port.cc:84] Failed to add port", "ERROR"),
    ("F1128 13:00:00.000000    1758 check.cc:1] Check failed", "CRITICAL"),
    ("2026-11-28 13:00:00.123456: W tensorflow/core/x.cc:1] slow", "WARNING"),
    ("voc-serve: error: --port is wrong", "ERROR"), ("Fatal Python error: Segmentation fault", "ERROR"),
    ("Corrupt JPEG data: premature end of data segment", "WARNING")])
def test_the_level_is_the_one_that_a_line_names(line: str, level: str) -> None:
    assert told(f"print({line!r}, file=sys.stderr); lines.close()")[0] == [(level, line)]


def test_the_last_words_of_a_crash_are_not_lost() -> None:
    errors, _ = told("os.write(2, b'terminate called'); ctypes.CDLL(None).abort()", -signal.SIGABRT)
    assert errors == [("WARNING", "terminate called")]
    errors, _ = told("import faulthandler; faulthandler.enable(); ctypes.string_at(0)", -signal.SIGSEGV)
    assert errors[0] == ("ERROR", "Fatal Python error: Segmentation fault")


def test_a_child_that_lives_on_holds_nobody_up() -> None:
    begun = time.monotonic()
    errors, _ = told("subprocess.Popen(['sleep', '20'], stdout=subprocess.DEVNULL)\nlines.close()")
    assert time.monotonic() - begun < 10
    assert errors == []


def test_who_reads_nothing_holds_nobody_up() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = run("for _ in range(20_000): os.write(2, b'x' * 100 + b'\\n')\nlines.close()", stdout=writer,
                  stderr=writer)
    os.close(writer)
    assert process.wait(60) == 0
    os.close(reader)


def test_signals_to_the_whole_group_leave_the_end_to_the_program() -> None:
    process = run("import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)\nprint('ready', flush=True)\n"
                  "signal.pause()\nos.write(2, b'stopped\\n')\nlines.close()\n", start_new_session=True)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["message"] == "ready"
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert objects(err)[0]["message"] == "stopped"
