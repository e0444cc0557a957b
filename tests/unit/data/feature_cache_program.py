"""Fills a cache of 20 rows, a row a block, from a process of its own: for tests that kill it or take its disk away.

    python feature_cache_program.py FOLDER [SECONDS_PER_ROW] [LARGEST_FILE_IN_BYTES]

Every row is a block. Prints each line of the cache's report, `row N` before row N is computed, and the sum of all
numbers at the end.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voc_cls.data import feature_cache
from voc_cls.errors import DataError

NAMES = [f"picture {number}" for number in range(20)]


def main(folder: Path, pause_s: float, largest_file: int) -> None:
    feature_cache.BLOCK_SECONDS = 0
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    def compute(missing: list[int]) -> Iterator[npt.NDArray[np.float32]]:
        for number in missing:
            print(f"row {number}", flush=True)
            time.sleep(pause_s)
            yield np.full((1, 100), number, np.float32)

    try:
        cache = feature_cache.FeatureCache(folder, 1, lambda line: print(line, flush=True))
        rows = cache.rows({"of": "numbers"}, NAMES, (100,), np.float32, compute, "numbers")
    except DataError as error:
        sys.exit(str(error))
    print(f"sum {rows[:].sum():g}")


if __name__ == "__main__":
    pause, limit = [*sys.argv[2:], "0", "0"][:2]
    main(Path(sys.argv[1]), float(pause), int(limit))
