"""voc-data: check, count, show, split, download and draw data sets, find label errors and what to label next."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import tyro

from voc_cls.cli.data_next import Next
from voc_cls.cli.similar import Similar
from voc_cls.config import Range, check_ranges
from voc_cls.console import import_tensorflow, new_console, parse, progress_bar, quiet_stderr, run, warn
from voc_cls.data.augmentation import AugmentationConfig
from voc_cls.data.dataset import DataConfig, DifficultPolicy
from voc_cls.errors import DataError, UsageError
from voc_cls.files import check_target

if TYPE_CHECKING:
    from voc_cls.data.official import OfficialArchive

PROGRAM = "voc-data"
DESCRIPTION = """Prepare data sets: download, check, count, preview and split them, find label errors, choose what to
label.

  voc-data download voc2007
  voc-data check --root VOCdevkit/VOC2007
  voc-data stats --root VOCdevkit/VOC2007 --plot stats.png
  voc-data preview --root VOCdevkit/VOC2007 --augment mild --out preview.png
  voc-data split --data folder --root PetImages --out lists --folds 5
  voc-data suspects runs/head
  voc-data similar a.jpg --run runs/head
  voc-data next runs/head photos --count 100 --label-studio tasks.json
  voc-data demo demo --pictures 480

Help for a subcommand: voc-data check --help"""
FRACTION = Range(0, 0.999)


@dataclass(frozen=True, kw_only=True)
class Check(DataConfig):
    """Find the problems of a data set; the exit code is 1 if there are any.

    Labels are read as in training, and every picture is decoded. Problems:
    - files that cannot be read or decoded, or whose counterpart is missing
    - unknown classes, classes without pictures, and a single-label data set with one class
    - the same picture in two splits, by name or by content
    - the same picture twice, with different labels

    Warnings, which do not change the exit code:
    - the same picture twice in one split, with the same labels
    - pictures in two splits that look alike: re-encoded, scaled, frames of a video
    - classes that a split lacks, that nearly all pictures show, or whose names differ only in case or blanks
    - what was left out or looked up elsewhere, such as test pictures without classes

    Examples:
      voc-data check --root VOCdevkit/VOC2007 --split trainval
      voc-data check --data cifar10 --root cifar-10-batches-py
      voc-data check --data csv --root lists
      voc-data check --data folder --root PetImages
      voc-data check --data coco --root coco --split val2017
    """

    split: str | None = None
    """The split to check. Default: all; for voc also the files that no list mentions."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        from voc_cls.data.check import check_dataset
        from voc_cls.data.load import scan_dataset
        from voc_cls.data.readers.split_scan import shown_classes
        from voc_cls.data.readers.voc import CLASSES

        scan = scan_dataset(self.data, self.root, self.split, self.classes)
        import_tensorflow()
        with quiet_stderr(), progress_bar(new_console(quiet=self.json)) as bar:
            task = bar.add_task("check", total=None, note="pictures")
            check = check_dataset(scan, lambda pictures: bar.update(task, total=pictures), lambda: bar.advance(task))
        if self.json:
            print(json.dumps(check.to_dict(), indent=2, ensure_ascii=False))
        else:
            print(*check.problems, *(f"warning: {warning}" for warning in check.warnings), sep="\n",
                  end="\n" if check.problems or check.warnings else "")
            if scan.reader.kind == "voc" and scan.splits and scan.splits[0].dataset.classes != CLASSES:
                print(f"classes: {shown_classes(scan.splits[0].dataset.classes)}")
        where = f"{check.name} ({', '.join(check.splits)})"
        if check.problems:
            raise DataError(f"{where}: {_number(check.problems, 'problem')} found; correct the files listed above")
        if not self.json:
            warnings = f", {_number(check.warnings, 'warning')}" if check.warnings else ""
            print(f"{where}: {check.images:,} pictures, no problem found{warnings}")


@dataclass(frozen=True, kw_only=True)
class Stats(DataConfig):
    """Count pictures per class, classes per picture, pairs of classes, and sizes.

    Reads the labels and the headers of the pictures only, so it is fast.

    Examples:
      voc-data stats --root VOCdevkit/VOC2007 --split test
      voc-data stats --data folder --root PetImages --plot stats.png
    """

    split: str | None = None
    """The split to count; for voc with its objects. Default: all splits, side by side."""
    plot: Path | None = None
    """Also draw the numbers into this PNG file."""
    json: bool = False
    """Print JSON: one object with --split, otherwise {"splits": [...]}."""

    def run(self) -> None:
        check_target("plot", self.plot, ".png")
        from voc_cls.data.load import scan_dataset
        from voc_cls.data.statistics import draw_statistics, statistics, table

        scan = scan_dataset(self.data, self.root, self.split, self.classes)
        if not scan.requested:
            raise DataError(f"{scan.reader.where}: has no split with classes to count; name a data set that has one")
        splits = statistics(scan)
        warn(warning for split in scan.splits for warning in split.warnings)
        if self.plot is not None:
            draw_statistics(self.plot, splits)
        if self.json:
            values = [split.to_dict() for split in splits]
            print(json.dumps({"splits": values} if self.split is None else values[0], indent=2, ensure_ascii=False))
        else:
            new_console(highlight=False).print(table(splits))
            if self.plot is not None:
                print(f"{self.plot}: drawn")


@dataclass(frozen=True, kw_only=True)
class Preview(DataConfig):
    """Draw training pictures into a PNG file, original and augmented.

    Example:
      voc-data preview --root VOCdevkit/VOC2007 --augment mild
    """

    split: str | None = None
    """The split of the pictures. Default: the training split of voc-train."""
    difficult: DifficultPolicy = DifficultPolicy.IGNORE
    """voc only: how to label a picture that contains only difficult objects of a class."""
    net: str = "vgg_16"
    """Network whose input size is used."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    pictures: Annotated[int, Range(1, 100)] = 6
    """Number of pictures, one per row, chosen at random; mixup and CutMix combine them with each other."""
    variants: Annotated[int, Range(1, 20)] = 5
    """Augmented variants of each picture."""
    seed: Annotated[int, Range(0)] = 0
    """Random seed: the same seed draws the same sheet."""
    out: Path = Path("preview.png")
    """PNG file to write."""

    def run(self) -> None:
        check_ranges(self)
        check_target("out", self.out, ".png")
        augmentation = self.augmentation.resolved()
        from voc_cls.data.load import default_splits, read_dataset
        from voc_cls.data.preview import draw_preview, preview
        from voc_cls.nets.registry import net_spec

        preprocessing = net_spec(self.net).preprocessing
        split = self.split or default_splits(self.data, self.root)[0]
        dataset = read_dataset(self.data, self.root, split, self.difficult, self.classes)
        warn(dataset.warnings)
        import_tensorflow()
        shown = preview(dataset, self.pictures, self.variants, augmentation, preprocessing, self.seed)
        draw_preview(self.out, shown, dataset.classes, f"{dataset.name}: training pictures as {self.net} sees them",
                     f"left: as they are; then {self.variants} variants each, {_flags(self.augmentation)}, seed "
                     f"{self.seed}")
        print(f"{self.out}: {len(shown.names)} pictures, {self.variants} variants of each")


@dataclass(frozen=True, kw_only=True)
class Split(DataConfig):
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

    out: Path
    """New folder for the lists: train.csv, val.csv and test.csv, or with --folds train_1.csv, val_1.csv and so on; and
    classes.txt."""
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
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0  # the splitters use NumPy's legacy generator
    """Random seed: the same seed gives the same lists."""
    difficult: DifficultPolicy = DifficultPolicy.IGNORE
    """voc only: how to label a picture that contains only difficult objects of a class."""
    json: bool = False
    """Print JSON: the folder, and the number of pictures of each list, in all and by class."""

    def run(self) -> None:
        check_ranges(self)
        if self.folds is not None and self.val is not None:
            raise UsageError(f"--val {self.val:g}: cannot be combined with --folds, which divide the pictures "
                             "already; omit one of them")
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
        if self.json:
            counts = {name: {"pictures": len(part), "classes": part.positives} for name, part in lists.parts.items()}
            print(json.dumps({"out": str(self.out), "lists": counts}, indent=2, ensure_ascii=False))
            return
        new_console().print(lists)
        chosen = "--val-split val" if val else "--val-split auto"
        if self.folds:
            chosen = "--fold 0" if self.per_class else "--fold 1"
        print(f"{self.out}: {len(lists.parts)} lists; train on them with\n"
              f"voc-train --data csv --root {shlex.quote(str(self.out))} {chosen} --weights vgg_16.ckpt --out runs/new")


@dataclass(frozen=True)
class Suspects:
    """List pictures that are probably labelled wrongly, the most suspicious first.

    Each picture is judged by a classifier (logistic regression on the features of
    the run's network) that has seen the other pictures only. A run of
    --trainable head is best: its features have not seen the labels, and they are
    in the cache already, so that this takes seconds.

    Columns: score, 0 (wrong) to 1 (right); given, the labels; probably, what to
    change: + a class that is missing, − a class too many, and its probability (if
    it were on half of the pictures).

    Examples:
      voc-data suspects runs/head
      voc-data suspects runs/head --split test --csv suspects.csv
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """Run folder: the --out of voc-train."""
    split: str | None = None
    """The split to judge. Default: the run's training split, with the part that it validated on."""
    folds: Annotated[int, Range(2, 100)] = 5
    """Number of parts; each is judged by a classifier of the others."""
    group: str | None = None
    """Pictures that must not judge each other, such as variants of one picture; see voc-data split --help. Default: the
    run's."""
    top: Annotated[int, Range(0)] = 20
    """Number of pictures in the table."""
    html: Path | None = None
    """HTML file with the pictures. Default: suspects.html in the run folder."""
    pictures: Annotated[int, Range(1, 10_000)] = 200
    """Number of pictures in the HTML file, about 12 kB each."""
    heat_maps: bool = True
    """Show in the HTML file where the run's network sees the class in doubt (Grad-CAM); takes longer."""
    csv: Path | None = None
    """Write all pictures to this CSV file: rank, file, score, given, suggested (classes separated by |)."""
    json: bool = False
    """Print JSON instead of the table, with all pictures."""
    cache_dir: Path | None = None
    """Folder for caches. Default: $VOC_CACHE_DIR, otherwise ~/.cache/voc-cls."""

    def run(self) -> None:
        check_ranges(self)
        page = self.html or self.run_folder / "suspects.html"
        check_target("html", self.html)
        check_target("csv", self.csv)
        import_tensorflow()
        from voc_cls.training.trained_run import open_run, run_suspects

        note = partial(print, file=sys.stderr if self.json else sys.stdout)
        trained = open_run(self.run_folder)
        suspects = run_suspects(trained, self.split, self.folds, self.group, self.cache_dir, note)
        suspects.write_html(page, self.pictures, trained.name, trained.heat_maps if self.heat_maps else None)
        if self.csv is not None:
            suspects.write_csv(self.csv)
        if self.json:
            print(json.dumps(suspects.to_dict(), indent=2, ensure_ascii=False))
        elif self.top:
            new_console().print(suspects.table(self.top))
        note(f"written: {page}")
        if self.csv is not None:
            note(f"written: {self.csv}")


@dataclass(frozen=True)
class Download:
    """Download an official data set, verify its digest and unpack it.

    Interrupted downloads are resumed; complete ones are not repeated.

    Examples:
      voc-data download voc2007    0.9 GB, VOCdevkit/VOC2007
      voc-data download voc2012    2.0 GB, VOCdevkit/VOC2012
      voc-data download cifar10    0.2 GB, cifar-10-batches-py
      voc-data download voc2007 --archive VOC*_06-Nov-2007.tar
    """

    name: tyro.conf.Positional[Literal["voc2007", "voc2012", "cifar10"]]
    """The data set."""
    out: Path = Path(".")
    """Folder to unpack into; needs about twice the size of the archives while unpacking."""
    parts: tuple[str, ...] = ()
    """voc2007 only: trainval, test or both. Default: both."""
    url: str | None = None
    """URL of a mirror: of the folder with the archives, or of one archive. Default: the official servers."""
    archive: tuple[Path, ...] = ()
    """Archives that you downloaded yourself, under their official names: unpacked, and not deleted."""
    sha256: str | None = None
    """Expected SHA-256 of the archive, if a mirror has repacked it. Default: the official digest."""

    def run(self) -> None:
        from voc_cls.data.official import OFFICIAL, chosen_parts, fetch_archive, mirrored

        official = OFFICIAL[self.name]
        archives = chosen_parts(official, self.parts)
        brought = self._brought(archives)
        if brought and not self.parts:
            archives = tuple(archive for archive in archives if archive.name in brought)
        if self.url is not None:
            archives = mirrored(archives, self.url)
        if self.sha256 is not None:
            archives = (self._repacked(archives),)
        for archive in archives:
            fetch_archive(archive, self.out, brought.get(archive.name), print, new_console(stderr=True))
        print(f"train on it: voc-train --data {official.data} --root {shlex.quote(str(self.out / official.root))} "
              f"{official.train} …")

    def _brought(self, archives: tuple[OfficialArchive, ...]) -> dict[str, Path]:
        """Name of an archive → the file; a single one may have any name."""
        brought = {}
        for file in self.archive:
            names = [archive.name for archive in archives]
            name = file.name if file.name in names else names[0]
            if name != file.name and len(names) > 1:
                raise UsageError(f"--archive {file}: has the name of none of the parts, {' and '.join(names)}; rename "
                                 f"it, or say which one it is with --parts")
            if not file.is_file():
                raise DataError(f"{file}: no such file; --archive takes {name}")
            brought[name] = file
        return brought

    def _repacked(self, archives: tuple[OfficialArchive, ...]) -> OfficialArchive:
        if not re.fullmatch("[0-9a-fA-F]{64}", self.sha256 or ""):
            raise UsageError(f"--sha256 {self.sha256}: a SHA-256 has 64 hexadecimal digits")
        if len(archives) > 1:
            raise UsageError(f"--sha256 {self.sha256}: is of one archive, but {len(archives)} are wanted; name the "
                             f"part with --parts")
        return replace(archives[0], sha256=self.sha256 or "", size=None)


@dataclass(frozen=True)
class Demo:
    """Generate a small devkit like VOC2007, with its 20 classes, to try everything.

    Example:
      voc-data demo demo --pictures 480
      voc-train --root demo/VOCdevkit/VOC2007 --weights none --out runs/demo
    """

    folder: tyro.conf.Positional[Path]
    """New or empty folder; the devkit is written to FOLDER/VOCdevkit/VOC2007."""
    pictures: Annotated[int, Range(3)] = 480
    """Number of pictures, a third each for train, val and test. With 30 or more, each split has every class."""
    seed: Annotated[int, Range(0)] = 0
    """Random seed: the same seed gives the same files, and a larger number of pictures starts with the same ones."""

    def run(self) -> None:
        check_ranges(self)
        from voc_cls.demo.devkit import write_demo

        with progress_bar(new_console()) as bar:
            task = bar.add_task("draw", total=self.pictures, note="pictures")
            root, already_there = write_demo(self.folder, self.pictures, self.seed, lambda: bar.advance(task))
        print(f"{'already there' if already_there else 'drawn'}: {self.pictures:,} pictures; use them with "
              f"--data voc --root {shlex.quote(str(root))}")


def _number(things: Sequence[object], name: str) -> str:
    return f"{len(things):,} {name}{'s' * (len(things) > 1)}"


def _flags(config: AugmentationConfig) -> str:
    """The flags of `config`, without those that are not set."""
    given = {name.replace("_", "-"): value for name, value in vars(config).items()
             if name == "augment" or value != getattr(AugmentationConfig(), name)}
    return " ".join(f"--{'' if value else 'no-'}{flag}" if isinstance(value, bool) else f"--{flag} {value}"
                    for flag, value in given.items())


Command = Check | Stats | Preview | Split | Suspects | Similar | Next | Download | Demo


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(PROGRAM, lambda: parse(cast("type[Check]", Command), PROGRAM, DESCRIPTION, args).run())
