"""The commands as a person runs them: installed scripts in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
"""Where the console scripts of this installation are."""


def command(program: str, *args: object, cwd: Path | None = None,
            **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs an installed command and returns how it ended, with its output."""
    return subprocess.run([str(BIN / program), *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=600,
                          check=False, env={**os.environ, "COLUMNS": "100", **environment})


def shell(script: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `script` as a person would paste it, stopping at the first command that fails."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=cwd, capture_output=True, text=True,
                          timeout=600, check=False, env={**os.environ, "PATH": path, "COLUMNS": "80", **environment})
