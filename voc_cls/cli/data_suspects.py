"""voc-data suspects: pictures that are probably labelled wrongly."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from voc_cls.config import Range, check_ranges
from voc_cls.console import import_tensorflow
from voc_cls.errors import UsageError


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
    """Number of pictures in the HTML file, about 14 kB each."""
    csv: Path | None = None
    """Write all pictures to this CSV file: rank, file, score, given, suggested (classes separated by |)."""
    json: bool = False
    """Print JSON instead of the table, with all pictures."""
    cache_dir: Path | None = None
    """Folder for caches. Default: $VOC_CACHE_DIR, otherwise ~/.cache/voc-cls."""

    def run(self) -> None:
        check_ranges(self)
        page = self.html or self.run_folder / "suspects.html"
        for flag, file in (("--html", page), ("--csv", self.csv)):
            if file is not None and self.run_folder.is_dir() and not file.absolute().parent.is_dir():
                raise UsageError(f"{flag} {file}: the folder {file.parent} does not exist; make it first")
        import_tensorflow()
        from rich.console import Console

        from voc_cls.training.suspects import run_suspects
        from voc_cls.training.trained_run import open_run

        def note(line: str) -> None:
            print(line, file=sys.stderr if self.json else sys.stdout)

        trained = open_run(self.run_folder)
        suspects = run_suspects(trained, self.split, self.folds, self.group, self.cache_dir, note)
        suspects.write_html(page, self.pictures, trained.name)
        if self.csv is not None:
            suspects.write_csv(self.csv)
        if self.json:
            print(json.dumps(suspects.to_dict(), indent=2, ensure_ascii=False))
        elif self.top:
            Console().print(suspects.table(self.top))
        note(f"written: {page}")
        if self.csv is not None:
            note(f"written: {self.csv}")
