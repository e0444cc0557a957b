"""The commands as a person runs them: installed scripts in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def command(program: str, *args: object, cwd: Path | None = None,
            **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs an installed command and returns how it ended, with its output."""
    return subprocess.run([str(BIN / program), *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=600,
                          check=False, env={**os.environ, "COLUMNS": "100", **environment})


@pytest.fixture(scope="session")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo devkit of 40 pictures, for reading only."""
    folder = tmp_path_factory.mktemp("demo")
    made = command("voc-data", "demo", folder / "devkit", "--pictures", 40, "--seed", 1)
    assert made.returncode == 0, made.stderr
    return folder / "devkit" / "VOCdevkit" / "VOC2007"
