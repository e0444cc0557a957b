"""voc-data: check, count, show and draw data sets."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, cast

import tyro

from voc_cls.console import import_tensorflow, parse, quiet_stderr, run
from voc_cls.data.augmentation import AugmentationConfig
from voc_cls.errors import DataError, UsageError

PROGRAM = "voc-data"
DESCRIPTION = """Check, count, show and draw data sets.

  voc-data check --root VOCdevkit/VOC2007 --split trainval
  voc-data stats --root VOCdevkit/VOC2007 --split test
  voc-data preview --root VOCdevkit/VOC2007 --augment lecture --out preview.png
  voc-data demo demo --pictures 480"""


@dataclass(frozen=True)
class Check:
    """Find everything that is wrong with a data set; exit code 1 if there is anything.

    Lists, annotations and pictures are read as in training, and each picture is decoded in full.
    """

    root: Path
    """Folder of the data set, such as VOCdevkit/VOC2007."""
    data: Literal["voc"] = "voc"
    """Kind of data set."""
    split: str | None = None
    """The split to check. Default: all splits, and pictures and annotations that have no counterpart."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Prints the problems, then fails if there are any."""
        from voc_cls.data.check import check_devkit

        with quiet_stderr(), _progress("check", enabled=not self.json) as (start, done):
            check = check_devkit(self.root, self.split, start, done)
        if self.json:
            print(json.dumps(check.to_dict(), indent=2, ensure_ascii=False))
        else:
            print(*check.problems, sep="\n", end="\n" if check.problems else "")
        where = f"{check.devkit} ({', '.join(check.splits)})"
        if check.problems:
            number = f"{len(check.problems):,} problem{'s' if len(check.problems) > 1 else ''}"
            raise DataError(f"{where}: {number} found; correct the files listed above")
        if not self.json:
            print(f"{where}: {check.pictures:,} pictures, no problem found")


@dataclass(frozen=True)
class Stats:
    """Count pictures, classes, objects and sizes of a split."""

    root: Path
    """Folder of the data set, such as VOCdevkit/VOC2007."""
    split: str
    """The split to count."""
    data: Literal["voc"] = "voc"
    """Kind of data set."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Prints the table."""
        from rich.console import Console

        from voc_cls.data.statistics import split_statistics

        statistics = split_statistics(self.root, self.split)
        if self.json:
            print(json.dumps(statistics.to_dict(), indent=2))
        else:
            Console().print(statistics)


@dataclass(frozen=True)
class Preview:
    """Draw a sheet of training pictures with their labels: as they are, and augmented as training would."""

    root: Path
    """Folder of the data set, such as VOCdevkit/VOC2007."""
    data: Literal["voc"] = "voc"
    """Kind of data set."""
    split: str = "trainval"
    """The split to take pictures from."""
    difficult: Literal["ignore", "positive", "negative"] = "ignore"
    """What a picture is for a class of which it holds only difficult objects."""
    net: str = "vgg_16"
    """Network whose input is shown."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    pictures: int = 6
    """Rows of the sheet, chosen at random; mixup and CutMix mix them with each other."""
    variants: int = 5
    """Augmented variants of each."""
    seed: int = 0
    """The same seed gives the same sheet."""
    out: Path = Path("preview.png")
    """The PNG file to write."""

    def run(self) -> None:
        """Draws, then prints where."""
        augmentation = self.augmentation.resolved()
        for name, least, most in (("pictures", 1, 100), ("variants", 1, 20), ("seed", 0, None)):
            value = getattr(self, name)
            if value < least or (most is not None and value > most):
                limits = f"at least {least}" if most is None else f"from {least} to {most}"
                raise UsageError(f"--{name} {value}: must be {limits}")
        from voc_cls.data.dataset import DifficultPolicy
        from voc_cls.data.preview import draw_preview, preview
        from voc_cls.data.readers import read_dataset
        from voc_cls.nets.registry import net_spec

        preprocessing = net_spec(self.net).preprocessing
        dataset = read_dataset(self.data, self.root, self.split, DifficultPolicy(self.difficult))
        import_tensorflow()
        shown = preview(dataset, self.pictures, self.variants, augmentation, preprocessing, self.seed)
        draw_preview(self.out, shown, dataset.classes, f"{dataset.name}: training pictures as {self.net} sees them",
                     f"left: as they are; then {self.variants} variants each, {_flags(self.augmentation)}, seed "
                     f"{self.seed}")
        print(f"{self.out}: {len(shown.names)} pictures, {self.variants} variants of each")


@dataclass(frozen=True)
class Demo:
    """Draw a small VOC2007 devkit with VOC's 20 classes, to try everything without a download."""

    folder: tyro.conf.Positional[Path]
    """Folder to write into, empty or new; the devkit is FOLDER/VOCdevkit/VOC2007."""
    pictures: int = 480
    """Number of pictures: a third each for train, val and test (from 30 on each of them shows every class)."""
    seed: int = 0
    """The same seed gives the same bytes, and more pictures begin with the same ones."""

    def run(self) -> None:
        """Draws, then prints how to use it."""
        from voc_cls.data.demo.devkit import SPLITS, write_demo

        if self.pictures < len(SPLITS):
            raise UsageError(f"--pictures {self.pictures}: needs one for each of {', '.join(SPLITS)}, so at least "
                             f"{len(SPLITS)}")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: a seed is 0 or more")
        with _progress("draw", enabled=True) as (start, done):
            start(self.pictures)
            demo = write_demo(self.folder, self.pictures, self.seed, done=done)
        print(f"{'already there' if demo.already_there else 'drawn'}: {demo.pictures:,} pictures; use them with "
              f"--data voc --root {shlex.quote(str(demo.root))}")


def _flags(config: AugmentationConfig) -> str:
    """The command line that gives `config`, without what is not set."""
    default, given = AugmentationConfig(), []
    for name, value in vars(config).items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            given.append(f"--{flag}" if value else f"--no-{flag}")
        elif name == "augment" or value != getattr(default, name):
            given.append(f"--{flag} {value}")
    return " ".join(given)


@contextmanager
def _progress(title: str, enabled: bool) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """(start with a number of pictures, one more is done) of a bar on stdout, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()
    with Progress(TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("pictures"), TimeRemainingColumn(),
                  console=console, transient=True, disable=not (enabled and console.is_terminal)) as progress:
        task = progress.add_task(title, total=None)
        yield lambda pictures: progress.update(task, total=pictures), lambda: progress.advance(task)


Command = (Annotated[Check, tyro.conf.subcommand("check")] | Annotated[Stats, tyro.conf.subcommand("stats")]
           | Annotated[Preview, tyro.conf.subcommand("preview")] | Annotated[Demo, tyro.conf.subcommand("demo")])


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(PROGRAM, lambda: parse(cast("type[Check]", Command), PROGRAM, DESCRIPTION, args).run())


if __name__ == "__main__":
    sys.exit(main())
