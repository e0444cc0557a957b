"""Where this application keeps what it can compute or download again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(given: Path | None = None) -> Path:
    """`given`, else $VOC_CACHE_DIR, else voc-cls in the user's cache folder ($XDG_CACHE_HOME, else ~/.cache)."""
    if given is not None:
        return given
    own = os.environ.get("VOC_CACHE_DIR")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "voc-cls"


def weights_folder() -> Path:
    """Where fetched weights are kept: $VOC_CLS_HOME/weights, else weights in the cache folder."""
    return Path(os.environ.get("VOC_CLS_HOME") or cache_folder()) / "weights"
