"""voc-data split: lists for training, validation and test, or folds."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from voc_cls.config import Range, check_ranges
from voc_cls.console import warn
from voc_cls.data.dataset import DataKind, DifficultPolicy
from voc_cls.errors import UsageError

FRACTION = Range(0, 0.999)
SEED = Range(0, 2**32 - 1)  # the splitters use NumPy's legacy generator


@dataclass(frozen=True)
class Split:
    """Split a data set into CSV lists for training, validation and test, or folds.

    - No picture is copied: the lists contain paths, for `voc-train --data csv`.
    - Stratified: each list gets its share of every class.
    - Each list is near its fraction, or an error says what is possible.
    - Pictures with the same content go to the same list, and so do variants of a
      picture or frames of a video: see --group.

    Examples:
      voc-data split --data folder --root PetImages --out lists
      voc-data split --data folder --root PetImages --out lists --folds 5
      voc-data split --data csv --root all.csv --out lists --group patient
      voc-data split --root frames --out lists --group '(video\\d+)_'
    """

    root: tuple[Path, ...]
    """Path of the data set; see voc-data check --help."""
    out: Path
    """New folder for the lists: train.csv, val.csv and test.csv, or with --folds train_1.csv, val_1.csv and so on; and
    classes.txt."""
    data: DataKind = "folder"
    """Kind of data set."""
    split: str | None = None
    """The split to divide. Default: the training split of voc-train."""
    val: Annotated[float | None, FRACTION] = None
    """Fraction of the pictures for val.csv, 0 to 1; 0: no such list. Default: 0.15. Not with --folds."""
    test: Annotated[float, FRACTION] = 0.15
    """Fraction of the pictures for test.csv, 0 to 1; 0: no such list."""
    folds: Annotated[int | None, Range(2, 100)] = None
    """Number of folds: each picture outside test.csv is in exactly one val_K.csv, and in the train_K.csv of the other
    folds. Train on one with `voc-train --fold K`."""
    per_class: bool = False
    """Write a list for each class, such as train_dog.csv, with numbers for classes; folds then count from 0, as in
    train_dog_0.csv. Single-label only."""
    group: str = "auto"
    """Pictures that go to the same list: a column of the CSV, or a regular expression with a capture group that is the
    same in their file names, such as '(.+)_\\d+' (with a / in it: in their paths). auto: Roboflow's variants of a
    picture (NAME.rf.HASH.jpg); none: every picture alone."""
    seed: Annotated[int, SEED] = 0
    """Random seed: the same seed gives the same lists."""
    difficult: DifficultPolicy = DifficultPolicy.IGNORE
    """voc only: how to label a picture that contains only difficult objects of a class."""
    classes: tuple[str, ...] = ()
    """Classes to list; others are ignored. Default: all."""

    def run(self) -> None:
        check_ranges(self)
        if self.folds is not None and self.val is not None:
            raise UsageError(f"--val {self.val:g}: cannot be combined with --folds, which divide the pictures "
                             "already; omit one of them")
        from rich.console import Console

        from voc_cls.data.load import default_splits, read_dataset
        from voc_cls.data.split import check_free, check_per_class, draw_lists, write_lists

        check_free(self.out)
        split = self.split or default_splits(self.data, self.root)[0]
        dataset = read_dataset(self.data, self.root, split, self.difficult, self.classes)
        warn(dataset.warnings)
        if self.per_class:
            check_per_class(dataset)
        val = 0.0 if self.folds is not None else 0.15 if self.val is None else self.val
        lists = draw_lists(dataset, val, self.test, self.folds, self.seed, self.group)
        write_lists(lists, self.out, self.per_class)
        Console().print(lists)
        chosen = "--val-split val" if val else "--val-split auto"
        if self.folds:
            chosen = "--fold 0" if self.per_class else "--fold 1"
        print(f"{self.out}: {len(lists.parts)} lists; train on them with\n"
              f"voc-train --data csv --root {shlex.quote(str(self.out))} {chosen} --weights vgg_16.ckpt --out runs/new")
