"""`pip install voc-cls` from a copy of the sources, as users install it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "voc_cls", "serving", "export")
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def sources(folder: Path) -> Path:
    """A copy, as building leaves its traces."""
    copy = folder / "source"
    copy.mkdir()
    for name in SOURCES:
        path = ROOT / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, copy / name)
    return copy


def pip(python: Path | str, *args: object) -> None:
    """Skips the test where pip reaches no package index."""
    command = (python, "-m", "pip", *args, "--quiet", "--disable-pip-version-check")
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False,
                          env=ENVIRONMENT)
    if done.returncode and "from versions: none" in done.stderr:
        pytest.skip(f"pip reaches no package index: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def install(folder: Path, extra: str = "", *flags: object) -> Path:
    """The bin folder of a new virtual environment with `pip install "voc-cls[extra]"`."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    # --no-compile: modules are compiled when they are imported, and most never are
    pip(python, "install", "--no-compile", *flags, f"{sources(folder)}{extra and f'[{extra}]'}")
    return python.parent
