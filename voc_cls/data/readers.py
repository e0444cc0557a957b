"""The data sets by name: what `--data` chooses from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from voc_cls.data.dataset import Dataset, DifficultPolicy

Reader = Callable[[Path, str, DifficultPolicy], Dataset]


def read_dataset(data: str, root: Path, split: str, difficult: DifficultPolicy) -> Dataset:
    """Reads one split of the data set kind `data`; DataError names file, line and what was found."""
    from voc_cls.data.voc import read_split

    readers: dict[str, Reader] = {"voc": read_split}
    return readers[data](root, split, difficult)
