"""Files written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a neighbour of `path` that has the same suffixes, then renames it: a kill at any moment
    leaves the old file or the new one. OSError as from the file system."""
    aside = path.with_name(f".aside-{os.getpid()}-{path.name}")
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text`, UTF-8, whole or not at all."""
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes `values` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")
