"""Data sets by kind: the table of the readers, and `load_dataset` for a whole data set.

    data = load_dataset("VOCdevkit/VOC2007")
    train, val = data["trainval"].split(0.15, seed=0)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from voc_cls.data.dataset import DataKind, Dataset, DifficultPolicy, Source, Task, html_table
from voc_cls.data.readers import cifar10, csv, folder, voc
from voc_cls.data.readers.split_scan import SplitScan
from voc_cls.errors import DataError, UsageError, VocError

NONE = "none"
"""The value of `eval_split` and `val_split` for no split."""


@dataclass(frozen=True)
class Reader:
    """One kind of data set."""

    scan: Callable[[Path, str, DifficultPolicy], SplitScan]
    splits: Callable[[Path], tuple[str, ...]]
    """The splits that exist."""
    default_splits: Callable[[Path], tuple[str, str]]
    """The split to train on and the one to evaluate on, or `none`."""
    matches: Callable[[Path], bool]
    """Whether a file or folder looks like this kind."""


class DatasetDict(Mapping[str, Dataset]):
    """The splits of a data set by name, read when they are first needed and then kept.

    Splits whose classes are unknown, such as the test pictures of a competition, are omitted.
    """

    def __init__(self, kind: DataKind, root: Path, difficult: DifficultPolicy = DifficultPolicy.IGNORE) -> None:
        self.kind, self.root, self.difficult = kind, root, difficult
        self._datasets: dict[str, Dataset | None] = dict.fromkeys(labelled_splits(kind, root))

    def __getitem__(self, split: str) -> Dataset:
        """Reads a split; KeyError where it does not exist, DataError with the first problem of one that is wrong."""
        if split not in self._datasets:
            raise KeyError(f"{split!r} is not a split of {self.root}; it has {', '.join(self._datasets) or 'none'}")
        dataset = self._datasets[split] or read_dataset(self.kind, self.root, split, self.difficult)
        self._datasets[split] = dataset
        return dataset

    def __iter__(self) -> Iterator[str]:
        return iter(self._datasets)

    def __len__(self) -> int:
        return len(self._datasets)

    @property
    def classes(self) -> tuple[str, ...]:
        """The same for all splits, in the order of the labels."""
        return self._any().classes

    @property
    def task(self) -> Task:
        """Whether an image belongs to one class or to any number of them."""
        return self._any().task

    def _any(self) -> Dataset:
        """A split that has been read already, else the one to train on, else the first."""
        read = next((dataset for dataset in self._datasets.values() if dataset is not None), None)
        if not self._datasets:
            raise DataError(f"{self.root}: has no split with classes")
        train = default_splits(self.kind, self.root)[0]
        return read or self[train if train in self else next(iter(self))]

    def _counts(self) -> dict[str, str]:
        """Split → number of its images, or why it cannot be read: a description never raises."""
        counts = {}
        for split in self:
            try:
                counts[split] = f"{len(self[split]):,}"
            except VocError as error:
                counts[split] = f"cannot be read ({error})"
        return counts

    def __repr__(self) -> str:
        splits = ", ".join(f"{split}: {count}" for split, count in self._counts().items())
        return f"DatasetDict({self.kind}, {str(self.root)!r}: {{{splits}}})"

    def _repr_html_(self) -> str:
        """What Jupyter shows: a table of the splits."""
        return html_table(f"{self.root} ({self.kind})", ("split", "images"), tuple(self._counts().items()))


def load_dataset(root: str | os.PathLike[str], kind: DataKind | None = None,
                 difficult: DifficultPolicy | str = DifficultPolicy.IGNORE) -> DatasetDict:
    """Opens a data set; its splits are read when they are first needed.

    Args:
        root: voc: the folder of one year, such as VOCdevkit/VOC2007. cifar10: cifar-10-batches-py or its archive.
            csv: the folder of the lists, or one list. folder: the folder of the class folders, or of the splits.
        kind: "voc", "cifar10", "csv" or "folder"; by default it is recognised from the content of `root`.
        difficult: voc only: what an image is for a class of which it shows only difficult objects: "ignore" (neither
            positive nor negative, as VOC does), "positive" or "negative".

    Raises:
        DataError: `root` is not such a data set, or its kind cannot be recognised.
    """
    path = Path(root)
    chosen = kind or recognise_kind(path)
    if chosen not in READERS:
        raise UsageError(f"`kind` {chosen!r}: must be one of {', '.join(READERS)}")
    if difficult not in tuple(DifficultPolicy):
        raise UsageError(f"`difficult` {difficult!r}: must be one of {', '.join(DifficultPolicy)}")
    return DatasetDict(chosen, path, DifficultPolicy(difficult))


def recognise_kind(root: Path) -> DataKind:
    """The kind of the data set at `root` according to its content; DataError where none or several are possible."""
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; `root` is where the data set is")
    kinds: list[DataKind] = [kind for kind, reader in READERS.items() if kind != "folder" and reader.matches(root)]
    if "voc" not in kinds and any(root.glob("*/ImageSets/Main")):
        voc.open_devkit(root)  # raises: it names the devkit that is meant
    if kinds in ([], ["csv"]) and READERS["folder"].matches(root):  # a devkit, too, is a tree of images
        kinds.append("folder")
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        raise DataError(f"{root}: can be read as {' and as '.join(kinds)}; pass one of them as `kind`")
    raise DataError(f"{root}: is not recognised as a data set of one of the kinds {', '.join(READERS)}; pass another "
                    "`root`, or the `kind` to see what is missing")


def read_dataset(kind: DataKind, root: Path, split: str,
                 difficult: DifficultPolicy = DifficultPolicy.IGNORE) -> Dataset:
    """Reads one split; the classes and their order are the same for all splits of `root`.

    Args:
        kind: of data set, a key of READERS.
        root: where it is.
        split: one of `splits_of`.
        difficult: only for kinds with difficult objects.

    Raises:
        DataError: the first problem, with file, line and what was found, or the splits that exist.
        UsageError: `difficult` is given for a kind that has no difficult objects.
    """
    return scan_split(kind, root, split, difficult).checked()


def scan_split(kind: DataKind, root: Path, split: str,
               difficult: DifficultPolicy = DifficultPolicy.IGNORE) -> SplitScan:
    """Like `read_dataset`, but the problems of single images and lines are collected, not raised."""
    if kind != "voc" and difficult is not DifficultPolicy.IGNORE:
        raise UsageError(f"`difficult` {difficult}: only voc has difficult objects, {kind} has none; omit it")
    scan = READERS[kind].scan(root, split, difficult)
    return replace(scan, dataset=replace(scan.dataset, source=Source(kind, root, split, difficult)))


def splits_of(kind: DataKind, root: Path) -> tuple[str, ...]:
    """The splits that exist; DataError where `root` is not such a data set."""
    return READERS[kind].splits(root)


def labelled_splits(kind: DataKind, root: Path) -> tuple[str, ...]:
    """The splits that have classes; those of folders may have none, like the test images of Dogs vs. Cats."""
    return tuple(split for split in splits_of(kind, root) if kind != "folder" or folder.has_classes(root, split))


def default_splits(kind: DataKind, root: Path) -> tuple[str, str]:
    """(to train on, to evaluate on) where no split is named; `none` for nothing to evaluate on.

    voc: trainval, test. cifar10: train, test. csv: train, and test if there is one; a single CSV: itself, none.
    folder: train, and test if it has classes; `all`, none where there are no such folders.
    """
    return READERS[kind].default_splits(root)


def _csv_defaults(root: Path) -> tuple[str, str]:
    splits = csv.splits_of(root)
    return splits[0] if len(splits) == 1 else "train", "test" if "test" in splits and len(splits) > 1 else NONE


def _folder_defaults(root: Path) -> tuple[str, str]:
    splits = folder.splits_of(root)
    return (folder.ALL if splits == (folder.ALL,) else "train",
            "test" if "test" in splits and folder.has_classes(root, "test") else NONE)


READERS: dict[DataKind, Reader] = {
    "voc": Reader(voc.scan_voc, lambda root: voc.open_devkit(root).splits(), lambda _: ("trainval", "test"),
                  voc.is_devkit),
    "cifar10": Reader(lambda root, split, _: cifar10.scan_cifar10(root, split), lambda _: tuple(cifar10.SPLITS),
                      lambda _: ("train", "test"), cifar10.is_cifar10),
    "csv": Reader(lambda root, split, _: csv.scan_csv(root, split), csv.splits_of, _csv_defaults, csv.is_csv),
    "folder": Reader(lambda root, split, _: folder.scan_folder(root, split), folder.splits_of, _folder_defaults,
                     folder.is_folder),
}
assert set(READERS) == set(get_args(DataKind))
