"""Data sets by kind: the table of the readers, and `load_dataset` for a whole data set.

    data = load_dataset("VOCdevkit/VOC2007")
    train, val = data["trainval"].split(0.15, seed=0)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from voc_cls.data.dataset import DataKind, Dataset, DifficultPolicy, Source, Task, html_table
from voc_cls.data.readers import cifar10, coco, csv, folder, voc
from voc_cls.data.readers.split_names import split_for
from voc_cls.data.readers.split_scan import SplitScan, choose_classes
from voc_cls.data.readers.voc_folders import is_voc
from voc_cls.errors import DataError, UsageError, VocError

Roots = Path | Sequence[Path]
"""Where a data set is; voc takes several paths."""
NONE = "none"
"""The value of `eval_split` and `val_split` for no split."""


@dataclass(frozen=True)
class Reader:
    """One kind of data set."""

    scan: Callable[[tuple[Path, ...], str, DifficultPolicy, tuple[str, ...]], SplitScan]
    """Takes roots, split, policy, and the classes that were chosen, which only voc needs to know in advance."""
    splits: Callable[[tuple[Path, ...]], tuple[str, ...]]
    """The splits that exist."""
    labelled_splits: Callable[[tuple[Path, ...]], tuple[str, ...]]
    """Those that have classes; others have images alone, like the test images of competitions."""
    default_splits: Callable[[tuple[Path, ...]], tuple[str, str]]
    """The split to train on and the one to evaluate on, or `none`."""
    matches: Callable[[Path], bool]
    """Whether a file or folder looks like this kind."""


class DatasetDict(Mapping[str, Dataset]):
    """The splits of a data set by name, read when they are first needed and then kept.

    Splits whose classes are unknown, such as the test pictures of a competition, are omitted.
    """

    def __init__(self, kind: DataKind, roots: tuple[Path, ...], difficult: DifficultPolicy = DifficultPolicy.IGNORE,
                 chosen: tuple[str, ...] = ()) -> None:
        self.kind, self.roots, self.difficult, self.chosen = kind, roots, difficult, chosen
        self._datasets: dict[str, Dataset | None] = dict.fromkeys(labelled_splits(kind, roots))

    def __getitem__(self, split: str) -> Dataset:
        """Reads a split; KeyError where it does not exist, DataError with the first problem of one that is wrong."""
        if split not in self._datasets:
            raise KeyError(f"{split!r} is not a split of {self._where}; it has {', '.join(self._datasets) or 'none'}")
        dataset = self._datasets[split] or read_dataset(self.kind, self.roots, split, self.difficult, self.chosen)
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

    @property
    def _where(self) -> str:
        return ", ".join(map(str, self.roots))

    def _any(self) -> Dataset:
        """A split that has been read already, else the one to train on, else the first."""
        read = next((dataset for dataset in self._datasets.values() if dataset is not None), None)
        if not self._datasets:
            raise DataError(f"{self._where}: has no split with classes; list its pictures, named as their files are")
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
        return f"DatasetDict({self.kind}, {self._where!r}: {{{splits}}})"

    def _repr_html_(self) -> str:
        """What Jupyter shows: a table of the splits."""
        return html_table(f"{self._where} ({self.kind})", ("split", "images"), tuple(self._counts().items()))


def load_dataset(root: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], kind: DataKind | None = None,
                 difficult: DifficultPolicy | str = DifficultPolicy.IGNORE, classes: Sequence[str] = ()) -> DatasetDict:
    """Opens a data set; its splits are read when they are first needed.

    Args:
        root: voc: the folder of one year, such as VOCdevkit/VOC2007, a folder of images with VOC annotations, or a
            list of such folders. cifar10: cifar-10-batches-py or its archive. csv: the folder of the lists, or one
            list. folder: the folder of the class folders, or of the splits. coco: the folder above
            annotations/instances_*.json, or one such file.
        kind: "voc", "cifar10", "csv", "folder" or "coco"; by default it is recognised from the content of `root`.
        difficult: voc only: what an image is for a class of which it shows only difficult objects: "ignore" (neither
            positive nor negative, as VOC does), "positive" or "negative".
        classes: the classes to read, in this order; others are ignored. By default all.

    Raises:
        DataError: `root` is not such a data set, or its kind cannot be recognised.
        UsageError: several roots for a kind other than voc.
    """
    roots = (Path(root),) if isinstance(root, (str, os.PathLike)) else tuple(map(Path, root))
    chosen = kind or recognise_kind(checked_roots("voc", roots)[0])
    if chosen not in READERS:
        raise UsageError(f"`kind` {chosen!r}: must be one of {', '.join(READERS)}")
    if difficult not in tuple(DifficultPolicy):
        raise UsageError(f"`difficult` {difficult!r}: must be one of {', '.join(DifficultPolicy)}")
    return DatasetDict(chosen, checked_roots(chosen, roots), DifficultPolicy(difficult), tuple(classes))


def recognise_kind(root: Path) -> DataKind:
    """The kind of the data set at `root` according to its content; DataError where none or several are possible."""
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; `root` is where the data set is")
    kinds: list[DataKind] = [kind for kind, reader in READERS.items() if kind != "folder" and reader.matches(root)]
    if kinds in ([], ["csv"]) and READERS["folder"].matches(root):  # a devkit, too, is a tree of images
        kinds.append("folder")
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        raise DataError(f"{root}: can be read as {' and as '.join(kinds)}; pass one of them as `kind`")
    likely: DataKind = "csv" if root.is_file() or any(root.glob("*.[ct]sv")) else "folder"
    reason = "what is missing"
    try:
        split = READERS[likely].splits((root,))[0]
        if likely == "csv":
            READERS[likely].scan((root,), split, DifficultPolicy.IGNORE, ())
    except DataError as error:
        reason = f"what is missing (as {likely}: {error})"
    raise DataError(f"{root}: is not recognised as a data set of one of the kinds {', '.join(READERS)}; pass another "
                    f"`root`, or the `kind` to see {reason}")


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


def read_dataset(kind: DataKind, root: Roots, split: str, difficult: DifficultPolicy = DifficultPolicy.IGNORE,
                 classes: tuple[str, ...] = ()) -> Dataset:
    """Reads one split; the classes and their order are the same for all splits of `root`.

    Args:
        kind: of data set, a key of READERS.
        root: where it is; voc takes several paths.
        split: one of `splits_of`.
        difficult: only for kinds with difficult objects.
        classes: those to read, in this order; others are ignored. By default all.

    Raises:
        DataError: the first problem, with file, line and what was found, or the splits that exist.
        UsageError: `difficult` or several roots for a kind that has neither, or a class that does not exist.
    """
    return scan_split(kind, root, split, difficult, classes).checked()


def scan_split(kind: DataKind, root: Roots, split: str, difficult: DifficultPolicy = DifficultPolicy.IGNORE,
               classes: tuple[str, ...] = ()) -> SplitScan:
    """Like `read_dataset`, but the problems of single images and lines are collected, not raised."""
    if kind != "voc" and difficult is not DifficultPolicy.IGNORE:
        raise UsageError(f"`difficult` {difficult}: only voc has difficult objects, {kind} has none; omit it")
    roots = checked_roots(kind, root)
    scan = READERS[kind].scan(roots, split, difficult, classes)
    if classes:
        scan = choose_classes(scan, classes)
    source = Source(kind, roots, split, difficult, classes=classes)
    return replace(scan, dataset=replace(scan.dataset, source=source))


def splits_of(kind: DataKind, root: Roots) -> tuple[str, ...]:
    """The splits that exist; DataError where `root` is not such a data set."""
    return READERS[kind].splits(checked_roots(kind, root))


def labelled_splits(kind: DataKind, root: Roots) -> tuple[str, ...]:
    """The splits that have classes; DataError where `root` is not such a data set."""
    return READERS[kind].labelled_splits(checked_roots(kind, root))


def default_splits(kind: DataKind, root: Roots) -> tuple[str, str]:
    """(to train on, to evaluate on) where no split is named; `none` for nothing to evaluate on.

    voc: trainval if there is one, else as others. cifar10: train, test. Others: train, and test if it has classes, or
    the only splits with such a name (training_set, train2017); a single split: itself, none.
    """
    return READERS[kind].default_splits(checked_roots(kind, root))


def _defaults_by_name(splits: Sequence[str], labelled: Sequence[str]) -> tuple[str, str]:
    train = splits[0] if len(splits) == 1 else split_for("train", splits) or "train"
    test = split_for("test", labelled)
    return train, test if test and test != train else NONE


def _voc_defaults(roots: tuple[Path, ...]) -> tuple[str, str]:
    try:
        splits = voc.splits_of(roots)
        train, test = _defaults_by_name(splits, voc.annotated_splits(roots))
    except DataError:  # told when a split is read
        return "trainval", "test"
    return "trainval" if "trainval" in splits else train, test


def _of_one_root(scan: Callable[[Path, str], SplitScan], splits: Callable[[Path], tuple[str, ...]],
                 matches: Callable[[Path], bool], has_classes: Callable[[Path, str], bool] = lambda *_: True) -> Reader:
    """The reader of a kind that takes one root and has no difficult objects."""
    def labelled(root: Path) -> tuple[str, ...]:
        return tuple(split for split in splits(root) if has_classes(root, split))

    return Reader(lambda roots, split, *_: scan(roots[0], split), lambda roots: splits(roots[0]),
                  lambda roots: labelled(roots[0]),
                  lambda roots: _defaults_by_name(splits(roots[0]), labelled(roots[0])), matches)


READERS: dict[DataKind, Reader] = {
    "voc": Reader(voc.scan_voc, voc.splits_of, voc.annotated_splits, _voc_defaults, is_voc),
    "cifar10": _of_one_root(cifar10.scan_cifar10, lambda _: tuple(cifar10.SPLITS), cifar10.is_cifar10),
    "csv": _of_one_root(csv.scan_csv, csv.splits_of, csv.is_csv, csv.has_classes),
    "folder": _of_one_root(folder.scan_folder, folder.splits_of, folder.is_folder, folder.has_classes),
    "coco": _of_one_root(coco.scan_coco, coco.splits_of, coco.is_coco),
}
assert set(READERS) == set(get_args(DataKind))
