"""Which pictures `voc-train` is told to use, and which splits that comes to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from voc_cls.data.dataset import DifficultPolicy
from voc_cls.data.load import NONE, DataKind, default_splits, folds_of
from voc_cls.errors import UsageError

AUTO = "auto"
"""How --val-split says: a part of what is trained on."""


@dataclass(frozen=True)
class DatasetConfig:
    """Which pictures. The kind of data set decides the task: voc is multi-label, cifar10 and folder are single-label, a
    CSV is what its header says."""

    root: Path
    """Where the data set is. voc: the folder of one year, with Annotations, ImageSets and JPEGImages. cifar10:
    cifar-10-batches-py or -bin, or the .tar.gz. csv: the folder of train.csv, test.csv and so on, or one such file.
    folder: the folder of the class folders, or of train and test with such folders in them."""
    data: DataKind = "voc"
    """Kind of data set. csv: lines of path,class (one class a picture) or path,labels (any number of them, separated by
    |). folder: the class is the name of the folder, or, without folders, what stands before the first dot
    (cat.0.jpg)."""
    train_split: str | None = None
    """Pictures to train on. voc: ImageSets/Main/<split>.txt; csv: <split>.csv; folder: a folder of this name. Default:
    trainval for voc, all for class folders without splits, else train."""
    eval_split: str | None = None
    """Pictures to report the results on, once, at the end; none: skip it. Default: test, where there is one."""
    val_split: str = AUTO
    """Pictures to watch while training: the best weights are those with the highest mean AP on them (with one class a
    picture: accuracy), thresholds and calibration are fitted to them. auto: a part of --train-split, which is then not
    trained on; none: watch nothing."""
    fold: int | None = None
    """Of the lists of `voc-data split --folds`, train on train_K.csv and watch val_K.csv (csv only). Default: none."""
    val_fraction: float = 0.15
    """How much of --train-split `--val-split auto` takes: stratified over the classes, drawn from --seed."""
    difficult: DifficultPolicy = DifficultPolicy.IGNORE
    """voc only: what a picture is for a class of which it holds only difficult objects (the VOC protocol ignores
    it)."""

    def resolved(self) -> DatasetConfig:
        """With the splits named that are meant; what is resolved already stays as it is.

        Raises UsageError for a fold that does not exist or contradicts other flags, DataError where `root` has to be
        looked at and holds no such data set.
        """
        chosen = replace(self, root=self.root.absolute())  # a run is used from other folders too
        if self.fold is not None:
            train, val = self._fold_splits(self.fold)
            chosen = replace(chosen, train_split=train, val_split=val)
        if chosen.train_split is None or chosen.eval_split is None:
            train, evaluate = default_splits(self.data, self.root)
            train = chosen.train_split or train
            evaluate = chosen.eval_split or (NONE if evaluate == train else evaluate)
            chosen = replace(chosen, train_split=train, eval_split=evaluate)
        return chosen

    def _fold_splits(self, fold: int) -> tuple[str, str]:
        """(to train on, to watch)."""
        train, val = f"train_{fold}", f"val_{fold}"
        if self.data != "csv":
            raise UsageError(f"--fold {fold}: not for --data {self.data}; make lists with `voc-data split --folds 5`, "
                             "which --data csv reads")
        for flag, given, harmless in (("--train-split", self.train_split, (None, train)),
                                      ("--val-split", self.val_split, (AUTO, val))):
            if given not in harmless:
                raise UsageError(f"--fold {fold}: takes {train} and {val}, not {flag} {given}; leave one of them away")
        known = folds_of(self.root)
        if fold not in known:
            found = f"the folds {', '.join(map(str, known))}; choose one of them" if known else (
                "no folds (train_1.csv with val_1.csv); make some with `voc-data split --folds 5`")
            raise UsageError(f"--fold {fold}: {self.root} has {found}")
        return train, val
