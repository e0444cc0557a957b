"""voc-data: check, count, show, split, download and draw data sets."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import tyro

from voc_cls.cli.download import Download
from voc_cls.cli.preview import Preview
from voc_cls.cli.split import Split
from voc_cls.console import import_tensorflow, parse, quiet_stderr, run
from voc_cls.data.dataset import DataKind
from voc_cls.errors import DataError, UsageError

PROGRAM = "voc-data"
DESCRIPTION = """Prepare data sets: download, check, count, preview and split them.

  voc-data download voc2007
  voc-data check --root VOCdevkit/VOC2007
  voc-data stats --root VOCdevkit/VOC2007 --plot stats.png
  voc-data preview --root VOCdevkit/VOC2007 --augment lecture --out preview.png
  voc-data split --data folder --root PetImages --out lists --folds 5
  voc-data demo demo --pictures 480

Help for a subcommand: voc-data check --help"""


@dataclass(frozen=True)
class Check:
    """Find the problems of a data set; the exit code is 1 if there are any.

    Labels are read as in training, and every picture is decoded. Problems:
    - files that cannot be read or decoded, or whose counterpart is missing
    - unknown classes, and classes without pictures
    - the same picture in two splits, by name or by content
    - the same picture twice, with different labels

    Warnings, which do not change the exit code:
    - the same picture twice in one split, with the same labels
    - classes that a split lacks; test pictures without classes

    Examples:
      voc-data check --root VOCdevkit/VOC2007 --split trainval
      voc-data check --data cifar10 --root cifar-10-batches-py
      voc-data check --data csv --root lists
      voc-data check --data folder --root PetImages
    """

    root: Path
    """Path of the data set. voc: the folder of one year, such as VOCdevkit/VOC2007. cifar10: cifar-10-batches-py or the
    .tar.gz. csv: the folder of train.csv and so on, or one CSV file. folder: the folder that contains a folder for each
    class, or for each split."""
    data: DataKind = "voc"
    """Kind of data set."""
    split: str | None = None
    """The split to check. Default: all; for voc also the files that no list mentions."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Prints the problems, then fails if there are any."""
        from voc_cls.data.scan import scan_in_background

        with scan_in_background(self.data, self.root, self.split) as wait:
            import_tensorflow()
            from voc_cls.data.check import check_dataset

            scan = wait()
        with quiet_stderr(), picture_bar("check", enabled=not self.json) as (start, done):
            check = check_dataset(scan, start, done)
        if self.json:
            print(json.dumps(check.to_dict(), indent=2, ensure_ascii=False))
        else:
            print(*check.problems, *(f"warning: {warning}" for warning in check.warnings), sep="\n",
                  end="\n" if check.problems or check.warnings else "")
        where = f"{check.name} ({', '.join(check.splits)})"
        if check.problems:
            raise DataError(f"{where}: {_number(check.problems, 'problem')} found; correct the files listed above")
        if not self.json:
            warnings = f", {_number(check.warnings, 'warning')}" if check.warnings else ""
            print(f"{where}: {check.images:,} pictures, no problem found{warnings}")


@dataclass(frozen=True)
class Stats:
    """Count pictures per class, classes per picture, pairs of classes, and sizes.

    Reads the labels and the headers of the pictures only, so it is fast.

    Examples:
      voc-data stats --root VOCdevkit/VOC2007 --split test
      voc-data stats --data folder --root PetImages --plot stats.png
    """

    root: Path
    """Path of the data set; see voc-data check --help."""
    split: str | None = None
    """The split to count; for voc with its objects. Default: all splits, side by side."""
    data: DataKind = "voc"
    """Kind of data set."""
    plot: Path | None = None
    """Also draw the numbers into this PNG file."""
    json: bool = False
    """Print JSON: one object with --split, otherwise {"splits": [...]}."""

    def run(self) -> None:
        """Prints the table."""
        from rich.console import Console

        from voc_cls.data.scan import scan_dataset
        from voc_cls.data.statistics import draw_statistics, statistics, table

        scan = scan_dataset(self.data, self.root, self.split)
        if not scan.requested:
            raise DataError(f"{self.root}: has no split to count")
        splits = statistics(scan)
        if self.plot is not None:
            draw_statistics(self.plot, splits)
        if self.json:
            values = [split.to_dict() for split in splits]
            print(json.dumps({"splits": values} if self.split is None else values[0], indent=2, ensure_ascii=False))
        else:
            Console(highlight=False).print(table(splits))
            if self.plot is not None:
                print(f"{self.plot}: drawn")


@dataclass(frozen=True)
class Demo:
    """Generate a small devkit like VOC2007, with its 20 classes, to try everything.

    Example:
      voc-data demo demo --pictures 480
      voc-train --root demo/VOCdevkit/VOC2007 --weights none --out runs/demo
    """

    folder: tyro.conf.Positional[Path]
    """New or empty folder; the devkit is written to FOLDER/VOCdevkit/VOC2007."""
    pictures: int = 480
    """Number of pictures, a third each for train, val and test. With 30 or more, each split has every class."""
    seed: int = 0
    """Random seed: the same seed gives the same files, and a larger number of pictures starts with the same ones."""

    def run(self) -> None:
        """Draws, then prints how to use it."""
        from voc_cls.demo.devkit import SPLITS, write_demo

        if self.pictures < len(SPLITS):
            raise UsageError(f"--pictures {self.pictures}: must be at least {len(SPLITS)}, one for each of "
                             f"{', '.join(SPLITS)}")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: must be at least 0")
        with picture_bar("draw") as (start, done):
            start(self.pictures)
            demo = write_demo(self.folder, self.pictures, self.seed, done=done)
        print(f"{'already there' if demo.already_there else 'drawn'}: {demo.pictures:,} pictures; use them with "
              f"--data voc --root {shlex.quote(str(demo.root))}")


@contextmanager
def picture_bar(title: str, enabled: bool = True) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """A progress bar on stdout, if that is a terminal.

    Yields (function that sets the number of pictures, function that counts one picture).
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()
    with Progress(TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("pictures"), TimeRemainingColumn(),
                  console=console, transient=True, disable=not (enabled and console.is_terminal)) as progress:
        task = progress.add_task(title, total=None)
        yield lambda pictures: progress.update(task, total=pictures), lambda: progress.advance(task)


def _number(things: Sequence[object], name: str) -> str:
    return f"{len(things):,} {name}{'s' * (len(things) > 1)}"


Command = (Annotated[Check, tyro.conf.subcommand("check")] | Annotated[Stats, tyro.conf.subcommand("stats")]
           | Annotated[Preview, tyro.conf.subcommand("preview")] | Annotated[Split, tyro.conf.subcommand("split")]
           | Annotated[Download, tyro.conf.subcommand("download")] | Annotated[Demo, tyro.conf.subcommand("demo")])


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(PROGRAM, lambda: parse(cast("type[Check]", Command), PROGRAM, DESCRIPTION, args).run())


if __name__ == "__main__":
    sys.exit(main())
