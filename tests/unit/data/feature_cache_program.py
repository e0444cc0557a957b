"""Fills a cache of 20 rows, a row a block, from a process of its own: for tests that kill it or take its disk away.

    python feature_cache_program.py FOLDER [SECONDS_PER_ROW] [LARGEST_FILE_IN_BYTES]

Prints each line of `cached_rows`, `row N` before row N is computed, and the sum of all numbers at the end.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voc_cls.data.feature_cache import cached_rows
from voc_cls.errors import DataError

ITEMS = [f"picture {number}" for number in range(20)]


def main(folder: Path, pause_s: float, largest_file: int) -> None:
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    def compute(missing: list[int]) -> Iterator[npt.NDArray[np.float32]]:
        for number in missing:
            print(f"row {number}", flush=True)
            time.sleep(pause_s)
            yield np.full((1, 100), number, np.float32)

    try:
        rows = cached_rows(folder, {"of": "numbers"}, ITEMS, (100,), np.float32, compute, 1e6, "numbers",
                           lambda line: print(line, flush=True))
    except DataError as error:
        sys.exit(str(error))
    print(f"sum {rows[:].sum():g}")


if __name__ == "__main__":
    pause, limit = [*sys.argv[2:], "0", "0"][:2]
    main(Path(sys.argv[1]), float(pause), int(limit))
