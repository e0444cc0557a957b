"""How voc-predict answers: tables for a person, lines for a pipe, JSON and CSV for programs, each as it comes."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from rich.bar import Bar
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from voc_cls.cli.predict import PROGRAM, Output
from voc_cls.client import Prediction
from voc_cls.files import write_aside

SEEN = "green"
COLUMNS = ("file", "model", "version", "label", "probability", "error")
"""Of the CSV file."""
LABEL_WIDTH = 11
"""Columns of a terminal that a label has at least, so that tables of different pictures stand in line."""
WORTH_A_BAR = 20
"""From so many pictures on, a terminal shows how far it is."""
Answer = tuple[Path, Prediction]


class Answers:
    """Passes answers on and keeps what is needed at the end."""

    def __init__(self, files: Sequence[Path], *, keep_for_sheet: bool) -> None:
        self._all, self._keep = files, keep_for_sheet
        self.errors: list[str] = []
        self.files: list[Path] = []
        """Those that were answered, for the sheet."""
        self.predictions: list[Prediction] = []
        """What was answered about the first of them, as many as a sheet has."""

    def each(self, predictions: Iterable[Prediction]) -> Iterator[Answer]:
        """(file, prediction) in their order; one line on stderr for each that has an error."""
        for file, prediction in zip(self._all, predictions, strict=True):
            if prediction.error is not None:
                self.errors.append(prediction.error)
                if len(self._all) > 1:
                    print(f"{PROGRAM}: error: {prediction.error}", file=sys.stderr)
            elif self._keep:
                self._keep_one(file, prediction)
            yield file, prediction

    def _keep_one(self, file: Path, prediction: Prediction) -> None:
        from voc_cls.evaluation.sheet import MOST_PICTURES

        self.files.append(file)
        if len(self.predictions) < MOST_PICTURES:
            self.predictions.append(prediction)


def answered(output: Output, answers: Iterator[Answer], total: int) -> None:
    """Takes all answers and writes them as they come; a file appears when it is complete, and JSON on stdout too."""
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # file names need not be UTF-8
    console = Console() if sys.stdout.isatty() else Console(stderr=True)
    with contextlib.closing(answers), _progress(console, answers, total) as counted:  # type: ignore[type-var]
        if output.file is not None:
            write_aside(output.file, lambda aside: _to_file(aside, counted, as_csv=output.csv is not None))
        elif output.json:
            _json_to_stdout(counted)
        elif sys.stdout.isatty():
            _tables(console, counted, output.threshold)
        else:
            _lines(counted)
    if output.file is not None:
        print(f"{output.file}: {total} pictures", file=sys.stderr)


@contextlib.contextmanager
def _progress(console: Console, answers: Iterator[Answer], total: int) -> Iterator[Iterator[Answer]]:
    """The answers, with a bar while they come, where a person can see it."""
    if total < WORTH_A_BAR or not sys.stderr.isatty():
        yield answers
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("pictures"), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
        yield iter(progress.track(answers, total=total))


def _to_file(path: Path, answers: Iterable[Answer], *, as_csv: bool) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        (_write_csv if as_csv else _write_json)(file, answers)


def _json_to_stdout(answers: Iterable[Answer]) -> None:
    """One object or, where something ends it early, nothing."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape", newline="") as spool:
        _write_json(spool, answers)
        spool.seek(0)
        shutil.copyfileobj(spool, sys.stdout)


def _write_json(file: IO[str], answers: Iterable[Answer]) -> None:
    """{"pictures": [{"file": …, "model": …, "version": …, "labels": [{"label": …, "probability": …}, …],
    "activation": "sigmoid", "softmax" or null}, …]}; a picture without an answer also has an "error"."""
    file.write('{\n  "pictures": [')
    separator = "\n"
    for path, prediction in answers:
        entry = {"file": str(path), "model": prediction.model, "version": prediction.version,
                 "labels": [{"label": scored.label, "probability": scored.probability} for scored in prediction.labels],
                 "activation": prediction.activation or None}
        if prediction.error is not None:
            entry["error"] = prediction.error
        file.write(separator + textwrap.indent(json.dumps(entry, indent=2, ensure_ascii=False), "    "))
        separator = ",\n"
    file.write("\n  ]\n}\n")


def _write_csv(file: IO[str], answers: Iterable[Answer]) -> None:
    """A row for each label; one without a label for a picture that has none."""
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(COLUMNS)
    for path, prediction in answers:
        about = (path, prediction.model, prediction.version)
        labels = [(scored.label, f"{scored.probability:.6f}") for scored in prediction.labels] or [("", "")]
        rows.writerows((*about, *label, prediction.error) for label in labels)


def _lines(answers: Iterable[Answer]) -> None:
    """`file TAB label TAB probability`."""
    for file, prediction in answers:
        for scored in prediction.labels:
            print(f"{file}\t{scored.label}\t{scored.probability:.4f}")


def _tables(console: Console, answers: Iterable[Answer], threshold: float | None) -> None:
    """A small table per picture, and last who answered."""
    width, last = LABEL_WIDTH, None
    for file, prediction in answers:
        if prediction.error is not None:
            continue
        last = prediction
        width = max(width, *(len(scored.label) for scored in prediction.labels), 0)
        console.print(Text(str(file), style="bold", overflow="fold"))
        console.print(Padding(_table(prediction, threshold, width), (0, 0, 1, 2)))
    if last is not None:
        version = "" if last.version is None else f", version {last.version}"
        activation = f" ({last.activation})" if last.activation else ""
        console.print(Text(f"model {last.model}{version}{activation}; highlighted: {last.seen_rule(threshold)}",
                           style="dim"))


def _table(prediction: Prediction, threshold: float | None, label_width: int) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(width=label_width, no_wrap=True)
    table.add_column(width=len("100.0 %"), justify="right", no_wrap=True)
    table.add_column(ratio=1)
    found = prediction.seen(threshold)
    for scored in prediction.labels:
        seen = scored in found
        style = f"bold {SEEN}" if seen else "dim"
        percent = f"{scored.probability:.1%}".replace("%", " %")
        table.add_row(Text(scored.label, style=style), Text(percent, style=style),
                      Bar(1, 0, scored.probability, color=SEEN if seen else "bright_black"))
    return table
