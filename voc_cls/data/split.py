"""The lists of `voc-data split`: train, validation and test, or folds, drawn from a data set and written as CSVs."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voc_cls.console import with_flags
from voc_cls.data.dataset import Dataset
from voc_cls.data.readers.csv import CLASS_FILE, write_list
from voc_cls.data.statistics import count_table
from voc_cls.data.stratify import AUTO, Grouping
from voc_cls.errors import DataError, UsageError
from voc_cls.files import file_digests, write_text

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Lists:
    """The parts of `source` by the names of their lists; `repeated` counts the copies among its images."""

    source: Dataset
    parts: dict[str, Dataset]
    repeated: int
    groups: str = ""
    """The groups of images that were kept together, for people."""

    def __rich__(self) -> Table:
        """Images of every class in every list; of folds, the range of the validation parts."""
        shown = {"all": self.source} | {name: part for name, part in self.parts.items()
                                        if not name.startswith(("train_", "val_"))}
        columns: dict[str, list[int | str]] = {name: [*part.positives.values(), len(part)]
                                               for name, part in shown.items()}
        vals = [[*part.positives.values(), len(part)] for name, part in self.parts.items() if name.startswith("val_")]
        caption = [f"val_1 to val_{len(vals)}: smallest and largest", "train_K: all but val_K and test"] if vals else []
        caption += [f"kept together: {with_flags(self.groups)}"] if self.groups else []
        caption += [f"copies, byte by byte: {self.repeated:,}, in the list of their original"] if self.repeated else []
        if vals:
            columns["val_K"] = [f"{min(counts):,}–{max(counts):,}" for counts in zip(*vals, strict=True)]
        return count_table(columns, self.source.classes, title=f"{self.source.name}: {len(self.source):,} pictures",
                           caption="\n".join(caption) or None)


def draw_lists(dataset: Dataset, val: float, test: float, folds: int | None, seed: int, group: str = AUTO) -> Lists:
    """Draws train, val and test from `dataset`, or with `folds` train_1, val_1 and so on, and test.

    Every class is divided alike, and images with the same bytes go to the same list, as those of a `group` do (see
    `Dataset.split`). `val` (without `folds`) and `test` are fractions of all images; 0: no such list. UsageError where
    nothing would be drawn or left, a list cannot be near its fraction, or a class is too small.
    """
    if not val + test + (folds or 0) > 0:
        raise UsageError("`val` 0 and `test` 0: leave one list of everything; give a fraction, or `folds`")
    if val + test >= 1:
        raise UsageError(f"`val` {val:g} and `test` {test:g}: leave nothing to train on; their sum must be below 1")
    grouping, digests, rows = dataset.grouping(group), file_digests(dataset.paths), np.arange(len(dataset))
    parts: dict[str, Dataset] = {}
    if test:
        rows, taken = dataset.stratified(grouping, digests).part(test, seed, f"`test` {test:g}")
        parts["test"] = dataset.subset(taken, f"{dataset.name}, test")
    rest = dataset.subset(rows, f"{dataset.name} without its test part" if test else dataset.name)
    keys = Grouping(tuple(grouping.keys[row] for row in rows), grouping.text)
    together = rest.stratified(keys, [digests[row] for row in rows])
    drawn = {"train": np.arange(len(rest))}
    if folds is not None:
        pairs = enumerate(together.folds(folds, seed), 1)
        drawn = {f"{side}_{fold}": pair[number] for fold, pair in pairs for number, side in enumerate(("train", "val"))}
    elif val:
        drawn["train"], drawn["val"] = together.part(val / (1 - test), seed, f"`val` {val:g}")
    lists = {name: rest.subset(chosen, name) for name, chosen in drawn.items()}
    return Lists(dataset, lists | parts, len(digests) - len(set(digests)), grouping.text)


def check_per_class(dataset: Dataset) -> None:
    """UsageError where a data set cannot have a list for each class."""
    if not dataset.single_label:
        raise UsageError(f"`per_class`: {dataset.name} is multi-label, and a picture of several classes would be in "
                         "several lists; omit it")
    for label in dataset.classes:
        if not re.fullmatch(r"[^\d/][^/]*", label):
            raise UsageError(f"`per_class`: the class {label!r} cannot be in the name of a list, as it begins with a "
                             "digit or has a slash; omit it, or rename the class")


def write_lists(lists: Lists, out: Path, per_class: bool = False) -> None:
    """Writes a CSV for every list, and the list of the classes, into the new folder `out`, atomically.

    The paths are relative to `out`. per_class: a CSV for every list and class, with the number of the class; the folds
    count from 0. DataError where `out` exists or cannot be written.
    """
    aside = out.absolute().with_name(f".aside-{os.getpid()}-{out.absolute().name}")
    try:
        aside.mkdir(parents=True)
        real = os.path.realpath(out)

        def name(path: Path) -> str:
            return os.path.join(os.path.relpath(os.path.realpath(path.parent), real), path.name)

        for split, part in lists.parts.items():
            if not per_class:
                write_list(aside / f"{split}.csv", part, name)
                continue
            side, _, fold = split.partition("_")
            numbered = replace(part, classes=tuple(map(str, range(len(part.classes)))))
            for column, label in enumerate(part.classes):
                file, rows = f"{side}_{label}{f'_{int(fold) - 1}' if fold else ''}.csv", part.labels[:, column] == 1
                if rows.any():
                    write_list(aside / file, numbered.subset(np.flatnonzero(rows), split), name)
        if not per_class:
            write_text(aside / CLASS_FILE, "".join(f"{label}\n" for label in lists.source.classes))
        check_free(out)
        aside.rename(out)
    except OSError as error:
        raise DataError(f"`out` {out}: cannot be written ({error.strerror}); choose another folder") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_free(out: Path) -> None:
    """DataError where `out` exists: lists that a run may have been trained on are never overwritten."""
    if os.path.lexists(out):
        raise DataError(f"`out` {out}: exists already; choose another folder, or delete it")
