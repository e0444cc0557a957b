"""One and two Ray nodes on one machine, each pinned to a core of its own: serving and batch prediction.

    python benchmarks/scale_out.py serving models/voc VOCdevkit/VOC2007/JPEGImages
    python benchmarks/scale_out.py batch models/voc VOCdevkit/VOC2007/JPEGImages
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Processes that start within run on this core alone; this process has all of its cores again afterwards."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


# --- serving ---------------------------------------------------------------------------------------------------------


def serving(model: Path, images: Path) -> dict[str, Any]:
    raise NotImplementedError


# --- batch prediction ------------------------------------------------------------------------------------------------


def batch(model: Path, images: Path) -> dict[str, Any]:
    raise NotImplementedError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=("serving", "batch"))
    parser.add_argument("model", type=Path, help="folder of an exported model")
    parser.add_argument("images", type=Path, help="folder of images")
    args = parser.parse_args()
    print({"serving": serving, "batch": batch}[args.section](args.model, args.images))


if __name__ == "__main__":
    main()
