"""Data sets of any kind: `load_dataset` opens one, `scan_dataset` reads all of it and what is wrong with it.

    data = load_dataset("VOCdevkit/VOC2007")
    train, val = data["trainval"].split(0.15, seed=0)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from voc_cls.data.dataset import DataKind, Dataset, DifficultPolicy, Task, html_table
from voc_cls.data.readers.cifar10 import Cifar10Reader
from voc_cls.data.readers.coco import CocoReader
from voc_cls.data.readers.csv import CsvReader
from voc_cls.data.readers.folder import FolderReader
from voc_cls.data.readers.label_studio import LabelStudioReader
from voc_cls.data.readers.split_scan import Reader, SplitScan, split_for
from voc_cls.data.readers.voc import VocReader
from voc_cls.errors import DataError, UsageError, VocError

Roots = Path | Sequence[Path]
"""Where a data set is; voc takes several paths."""
NONE = "none"
"""The value of `eval_split` and `val_split` for no split."""
NO_CLASSES = "has no split with classes; list its pictures, named as their files are"
READERS: dict[DataKind, type[Reader]] = {
    reader.kind: reader for reader in (VocReader, Cifar10Reader, CsvReader, FolderReader, CocoReader,
                                       LabelStudioReader)}
assert set(READERS) == set(get_args(DataKind))


class DatasetDict(Mapping[str, Dataset]):
    """The splits of a data set by name, read when they are first needed and then kept.

    Splits whose classes are unknown, such as the test pictures of a competition, are omitted.
    """

    def __init__(self, reader: Reader, difficult: DifficultPolicy, chosen: tuple[str, ...]) -> None:
        self.kind, self.roots, self.difficult, self.chosen = reader.kind, reader.roots, difficult, chosen
        self._reader = reader
        self._datasets: dict[str, Dataset | None] = dict.fromkeys(reader.labelled_splits)

    def __getitem__(self, split: str) -> Dataset:
        """Reads a split; KeyError where it does not exist, DataError with the first problem of one that is wrong."""
        if split not in self._datasets:
            raise KeyError(f"{split!r} is not a split of {self._reader.where}; it has "
                           f"{', '.join(self._datasets) or 'none'}")
        dataset = self._datasets[split] or self._reader.scan(split, self.difficult, self.chosen).checked()
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
            raise DataError(f"{self._reader.where}: {NO_CLASSES}")
        train = default_splits(self.kind, self.roots)[0]
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
        return f"DatasetDict({self.kind}, {self._reader.where!r}: {{{splits}}})"

    def _repr_html_(self) -> str:
        """What Jupyter shows: a table of the splits."""
        return html_table(f"{self._reader.where} ({self.kind})", ("split", "images"), tuple(self._counts().items()))


def load_dataset(root: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], kind: DataKind | None = None,
                 difficult: DifficultPolicy | str = DifficultPolicy.IGNORE, classes: Sequence[str] = ()) -> DatasetDict:
    """As `voc_cls.load_dataset`."""
    roots = (Path(root),) if isinstance(root, (str, os.PathLike)) else tuple(map(Path, root))
    chosen = kind or recognise_kind(checked_roots("voc", roots)[0])
    if chosen not in READERS:
        raise UsageError(f"`kind` {chosen!r}: must be one of {', '.join(READERS)}")
    if difficult not in tuple(DifficultPolicy):
        raise UsageError(f"`difficult` {difficult!r}: must be one of {', '.join(DifficultPolicy)}")
    return DatasetDict(open_reader(chosen, roots), DifficultPolicy(difficult), tuple(classes))


def recognise_kind(root: Path, parameter: str = "kind") -> DataKind:
    """The kind of the data set at `root` according to its content; DataError where none or several are possible.

    parameter: what errors call that which names a kind.
    """
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; `root` is where the data set is")
    kinds: list[DataKind] = [kind for kind, reader in READERS.items() if kind != "folder" and reader.matches(root)]
    if kinds in ([], ["csv"]) and READERS["folder"].matches(root):  # a devkit, too, is a tree of images
        kinds.append("folder")
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        raise DataError(f"{root}: can be read as {' and as '.join(kinds)}; pass one of them as `{parameter}`")
    try:
        open_reader("voc", root).scan("trainval")
    except DataError as error:
        if "pass `root`" in str(error):  # of a folder in a devkit, or above it
            raise
    likely: DataKind = "csv" if root.is_file() or any(root.glob("*.[ct]sv")) else "folder"
    reason = "what is missing"
    try:
        reader = open_reader(likely, root)
        reader.scan(reader.splits[0])
    except DataError as error:
        reason = f"what is missing (as {likely}: {error})"
    raise DataError(f"{root}: is not recognised as a data set of one of the kinds {', '.join(READERS)}; pass another "
                    f"`root`, or the `{parameter}` to see {reason}")


def checked_roots(kind: DataKind, root: Roots) -> tuple[Path, ...]:
    """The paths of a data set; UsageError for none, for one given twice, and for several unless the kind is voc."""
    roots = (root,) if isinstance(root, Path) else tuple(root)
    if not roots:
        raise UsageError("`root`: names no path; give the path of the data set")
    if len(roots) > 1 and kind != "voc":
        raise UsageError(f"`root` {roots[1]}: is a second path, and {kind} takes one; only voc takes several")
    real = [os.path.realpath(path) for path in roots]
    twice = [path for number, path in enumerate(roots) if real[number] in real[:number]]
    if twice:
        raise UsageError(f"`root` {twice[0]}: is given twice; give each path once")
    return roots


def known_kind(kind: DataKind | None, root: Roots) -> DataKind:
    """`kind`, else that which the content at `root` has, DataError as `recognise_kind`; voc where there is nothing, as
    its reader says what is missing."""
    first = checked_roots(kind or "voc", root)[0]
    return kind or (recognise_kind(first, "data") if first.exists() else "voc")


def open_reader(kind: DataKind | None, root: Roots) -> Reader:
    """The reader of the data set at `root`, of the kind that its content has unless given; nothing else is read yet."""
    kind = known_kind(kind, root)
    return READERS[kind](checked_roots(kind, root))


def read_dataset(kind: DataKind | None, root: Roots, split: str, difficult: DifficultPolicy = DifficultPolicy.IGNORE,
                 classes: tuple[str, ...] = ()) -> Dataset:
    """Reads one split; the classes and their order are the same for all splits of `root`.

    classes: those to read, in this order; others are ignored; by default all. Raises DataError with the first problem,
    with file, line and what was found, or with the splits that exist; UsageError for `difficult` or several roots for a
    kind that has neither, or a class that does not exist.
    """
    return open_reader(kind, root).scan(split, difficult, classes).checked()


def default_splits(kind: DataKind | None, root: Roots) -> tuple[str, str]:
    """(to train on, to evaluate on) where no split is named; `none` for nothing to evaluate on.

    voc: trainval if there is one, else as others. cifar10: train, test. Others: train, and test if it has classes, or
    the only splits with such a name (training_set, train2017); a single split: itself, none.
    """
    reader = open_reader(kind, root)
    try:
        splits, test = reader.splits, split_for("test", reader.labelled_splits)
    except DataError:
        if reader.kind == "voc":  # told when a split is read
            return "trainval", "test"
        raise
    train = splits[0] if len(splits) == 1 else split_for("train", splits) or "train"
    evaluate = test if test and test != train else NONE
    return "trainval" if reader.kind == "voc" and "trainval" in splits else train, evaluate


@dataclass(frozen=True)
class DatasetScan:
    """All splits that were read, and `problems`: one sentence each, with file and, in lists and annotations, line."""

    reader: Reader
    whole: bool
    """Whether all splits were requested."""
    requested: tuple[str, ...]
    """The splits that were requested; one that cannot be read is among the problems and not in `splits`."""
    splits: tuple[SplitScan, ...]
    problems: tuple[str, ...]


def scan_dataset(kind: DataKind | None, root: Roots, split: str | None = None, classes: tuple[str, ...] = ()
                 ) -> DatasetScan:
    """Reads labels and image headers; decodes nothing. DataError where `root` is not a data set of this kind.

    split: the only split to read; by default all that have classes. classes: those to read; by default all.
    """
    reader = open_reader(kind, root)
    labelled = reader.labelled_splits  # DataError where there is no such data set at all
    requested = labelled if split is None else (split,)
    scans, problems = [], []
    for name in requested:
        try:
            scan = reader.scan(name, classes=classes)
        except DataError as error:
            problems.append(str(error))
        else:
            scans.append(scan)
            problems += scan.problems
    return DatasetScan(reader, split is None, requested, tuple(scans), tuple(dict.fromkeys(problems)))
