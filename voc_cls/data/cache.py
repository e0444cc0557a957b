"""Where this application keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(given: Path | None = None) -> Path:
    """`given` (--cache-dir), $VOC_CACHE_DIR, or ~/.cache/voc-cls."""
    return given or Path(os.environ.get("VOC_CACHE_DIR") or Path.home() / ".cache/voc-cls")
