"""The lists of `voc-data split`: train, validation and test, or folds, drawn from one data set and written as CSVs."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voc_cls.data.dataset import Dataset
from voc_cls.data.feature_cache import file_digests
from voc_cls.data.readers.class_names import FILE
from voc_cls.data.readers.csv import write_list
from voc_cls.data.stratify import carve, folds
from voc_cls.errors import DataError, UsageError
from voc_cls.files import write_text

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = 7
"""Lists that the table shows side by side; of more folds it shows the smallest and the largest."""


@dataclass(frozen=True)
class Lists:
    """The parts of `source` by the names of their lists, and how many of its pictures are there more than once."""

    source: Dataset
    parts: dict[str, Dataset]
    repeated: int

    def __rich__(self) -> Table:
        """Pictures of every class in every list; of folds, what is validated on."""
        from rich.table import Table

        shown = {name: part for name, part in self.parts.items() if not name.startswith("train_")}
        vals = [part for name, part in shown.items() if name.startswith("val_")]
        if len(shown) > COLUMNS:
            shown = {name: part for name, part in shown.items() if not name.startswith("val_")}
        else:
            vals = [] if "val_1" in shown else vals
        caption = [f"val_1 to val_{len(vals)}: smallest and largest"] if vals else []
        caption += ["train_K: all but val_K and test"] if "train_1" in self.parts else []
        caption += [f"copies, byte by byte: {self.repeated:,}, in the list of their original"] if self.repeated else []
        table = Table(title=f"{self.source.name}: {len(self.source):,} pictures", caption="\n".join(caption) or None)
        for name in ("class", "all", *shown, *(["val_K"] if vals else [])):
            table.add_column(name, justify="left" if name == "class" else "right")
        for column, label in enumerate(self.source.classes):
            several = [int(part.labels[:, column].sum()) for part in vals]
            table.add_row(label, *(f"{int(part.labels[:, column].sum()):,}" for part in (self.source, *shown.values())),
                          *_range(several))
        table.add_section()
        table.add_row("pictures", *(f"{len(part):,}" for part in (self.source, *shown.values())),
                      *_range([len(part) for part in vals]), style="bold")
        return table


def draw_lists(dataset: Dataset, val: float, test: float, number: int | None, seed: int) -> Lists:
    """Draws train, val and test from `dataset`, or with `number` that many folds, train_1, val_1 …, and test.

    val, test: fractions of all pictures; 0: none. Every class goes to each list by its share, pictures with the same
    bytes go to the same list, and the same seed draws the same. UsageError where the classes are too small for it.
    """
    if not val + test + (number or 0) > 0:
        raise UsageError("--val 0 --test 0: leaves one list of everything; ask for a part, or for --folds")
    if val + test >= 1:
        raise UsageError(f"--val {val:g} --test {test:g}: leave nothing to train on; they must stay below 1 together")
    keys, rows = file_digests(dataset.paths), np.arange(len(dataset))
    parts: dict[str, Dataset] = {}
    if test:
        rows, taken = carve(dataset, test, seed, keys, f"--test {test:g}")
        parts["test"] = dataset.subset(taken, f"{dataset.name}, test")
    rest = dataset.subset(rows, dataset.name)
    rest_keys = [keys[row] for row in rows]
    drawn: dict[str, Dataset] = {}
    if number is not None:
        for fold, (train, validation) in enumerate(folds(rest, number, seed, rest_keys), 1):
            drawn |= {f"train_{fold}": rest.subset(train, f"train_{fold}"),
                      f"val_{fold}": rest.subset(validation, f"val_{fold}")}
    elif val:
        train, validation = carve(rest, val / (1 - test), seed, rest_keys, f"--val {val:g}")
        drawn = {"train": rest.subset(train, "train"), "val": rest.subset(validation, "val")}
    else:
        drawn = {"train": rest}
    return Lists(dataset, drawn | parts, len(keys) - len(set(keys)))


def write_lists(lists: Lists, out: Path) -> None:
    """Writes a CSV for every list, and the list of the classes, into the new folder `out`, which appears whole.

    The paths are relative to `out`. DataError where it exists or cannot be written.
    """
    check_free(out)
    aside = out.absolute().with_name(f".aside-{os.getpid()}-{out.absolute().name}")
    try:
        aside.mkdir(parents=True)
        real = os.path.realpath(out)

        def name(path: Path) -> str:
            return os.path.join(os.path.relpath(os.path.realpath(path.parent), real), path.name)

        for split, part in lists.parts.items():
            write_list(aside / f"{split}.csv", part, name)
        write_text(aside / FILE, "".join(f"{label}\n" for label in lists.source.classes))
        check_free(out)
        aside.rename(out)
    except OSError as error:
        raise DataError(f"--out {out}: cannot be written ({error.strerror}); choose another folder") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_free(out: Path) -> None:
    """DataError where `out` exists: lists that a run may have been trained on are never changed."""
    if os.path.lexists(out):
        raise DataError(f"--out {out}: exists already; choose another folder, or delete it")


def _range(counts: list[int]) -> list[str]:
    return [f"{min(counts):,}–{max(counts):,}"] if counts else []
