"""The data sets by name: what `--data` chooses from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.data.readers import cifar10, csv, folder
from voc_cls.data.readers.split_scan import Scanned
from voc_cls.data.readers.voc import open_devkit, scan_split
from voc_cls.errors import UsageError

DataKind = Literal["voc", "cifar10", "csv", "folder"]
NONE = "none"
"""How --eval-split and --val-split say that there is none."""


@dataclass(frozen=True)
class Reader:
    """One kind of data set."""

    scan: Callable[[Path, str, DifficultPolicy], Scanned]
    splits: Callable[[Path], tuple[str, ...]]
    """The splits that exist."""
    default_splits: Callable[[Path], tuple[str, str]]
    """What to train on and what to evaluate on, `none` if there is nothing."""


def read_dataset(data: str, root: Path, split: str, difficult: DifficultPolicy) -> Dataset:
    """Reads one split of the data set kind `data`; the classes and their order are the same for all splits of `root`.

    Raises DataError with the first problem, which names file, line and what was found, or lists the splits that exist;
    UsageError where `difficult` is said of a kind that knows no difficult objects.
    """
    return scan_dataset(data, root, split, difficult).checked()


def scan_dataset(data: str, root: Path, split: str, difficult: DifficultPolicy = DifficultPolicy.IGNORE) -> Scanned:
    """As `read_dataset`, but the problems of single pictures and lines are gathered, not raised."""
    if data != "voc" and difficult is not DifficultPolicy.IGNORE:
        raise UsageError(f"--difficult {difficult}: not for --data {data}, only voc has difficult objects; leave it "
                         "away")
    return READERS[data].scan(root, split, difficult)


def splits_of(data: str, root: Path) -> tuple[str, ...]:
    """The splits that exist; DataError where `root` holds no such data set."""
    return READERS[data].splits(root)


def default_splits(data: str, root: Path) -> tuple[str, str]:
    """(to train on, to evaluate on): what is meant where nobody names a split; `none` for nothing to evaluate on.

    voc: trainval, test. cifar10: train, test. csv: train, and test if there is one; a single CSV: itself, none.
    folder: train, and test if it says the classes; `all`, none where there are no such folders.
    """
    return READERS[data].default_splits(root)


def folds_of(root: Path) -> tuple[int, ...]:
    """The folds in a folder of CSV lists."""
    return csv.folds_of(root)


def _scan_voc(root: Path, split: str, difficult: DifficultPolicy) -> Scanned:
    scan = scan_split(open_devkit(root), split)
    return Scanned(scan.dataset(difficult), tuple(example.header for example in scan.examples), scan.problems)


def _csv_defaults(root: Path) -> tuple[str, str]:
    splits = csv.splits_of(root)
    return splits[0] if len(splits) == 1 else "train", "test" if "test" in splits and len(splits) > 1 else NONE


def _folder_defaults(root: Path) -> tuple[str, str]:
    splits = folder.splits_of(root)
    return (folder.ALL if splits == (folder.ALL,) else "train",
            "test" if "test" in splits and folder.has_classes(root, "test") else NONE)


READERS: dict[str, Reader] = {
    "voc": Reader(_scan_voc, lambda root: open_devkit(root).splits(), lambda _: ("trainval", "test")),
    "cifar10": Reader(lambda root, split, _: cifar10.scan_cifar10(root, split), lambda _: tuple(cifar10.SPLITS),
                      lambda _: ("train", "test")),
    "csv": Reader(lambda root, split, _: csv.scan_csv(root, split), csv.splits_of, _csv_defaults),
    "folder": Reader(lambda root, split, _: folder.scan_folder(root, split), folder.splits_of, _folder_defaults),
}
assert set(READERS) == set(get_args(DataKind))
