"""How a command ends when nobody reads on, for what it prints itself and for what rich prints."""

from __future__ import annotations

import subprocess
import sys

import pytest

from voc_cls.console import with_flags

PROGRAM = """
import sys
from voc_cls.console import run
def main():
    {print}
sys.exit(run("voc-test", main))
"""
PRINTS = {
    "rich": "from rich.console import Console; [Console().print('row') for _ in range(100_000)]",
    "print": "[print('row') for _ in range(100_000)]",
    "what is still in the buffer": "import time; time.sleep(0.5); print('row')",
}


@pytest.mark.parametrize("kind", PRINTS)
def test_a_reader_that_leaves_is_no_error(kind: str):
    reader = "head -n 1" if kind != "what is still in the buffer" else "true"
    done = subprocess.run(["bash", "-c", f'"$0" -c "$1" | {reader} > /dev/null; exit "${{PIPESTATUS[0]}}"',
                           sys.executable, PROGRAM.format(print=PRINTS[kind])], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_other_ways_to_leave_keep_their_code():
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(print="sys.exit(3)")], check=False, timeout=60)
    assert done.returncode == 3


def test_parameters_that_a_library_error_names_are_shown_as_flags():
    text = with_flags("`image_size` 12: must be at least 32; choose `head` gap, see `voc-nets`")
    assert text == "--image-size 12: must be at least 32; choose --head gap, see `voc-nets`"
