"""How voc-predict writes predictions: tables for a person, lines for a pipe, JSON and CSV for programs."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.bar import Bar
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from voc_cls.errors import UsageError
from voc_cls.files import check_target, write_csv, write_text
from voc_cls.pre_annotations import write_tasks
from voc_cls.prediction import Prediction

SEEN = "green"
COLUMNS = ("file", "model", "version", "label", "probability", "error")
"""Of the CSV file."""
MIN_LABEL_WIDTH = 11
"""Terminal columns of a label, so that the tables of several pictures are aligned."""
MIN_FOR_PROGRESS = 20
"""From this number of pictures on, a terminal shows a progress bar."""
FilePrediction = tuple[str, Prediction]
"""Path or URL, and what the picture shows."""


@dataclass(frozen=True)
class Output:
    """How to print or write the predictions."""

    json: bool = False
    """Print one JSON object instead of tables."""
    json_file: Path | None = None
    """Write that object to this file instead. An interrupted run leaves the old file as it was."""
    csv: Path | None = None
    """Write a CSV file with one row per label: file, model, version, label, probability, error. An interrupted run
    leaves the old file as it was."""
    label_studio: Path | None = None
    """Write tasks with these predictions as pre-annotations to this JSON file, and the labelling configuration beside
    it as .xml, to import into Label Studio: docs/data-sets.md."""
    threshold: float | None = None
    """Highlight, or pre-annotate, labels with at least this probability, 0 to 1. Default: 0.5; for single-label
    (softmax) models the most probable label."""
    sheet: Path | None = None
    """Draw the pictures with their labels into this PNG file; needs the extra `train`."""

    explain: Path | None = None
    """Folder for a PNG of each picture with the heat maps (Grad-CAM) of the labels with at least --threshold, if there
    are none of the most probable one: which parts of it speak for them; needs the extra `train`."""

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UsageError(f"`threshold` {self.threshold:g} is not a probability, 0 to 1")
        check_target("sheet", self.sheet, ".png")
        given = [name for name in ("json", "json_file", "csv", "label_studio") if getattr(self, name)]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(f'`{name}`' for name in given)} exclude each other: give one of them")
        check_target("".join(given), self.file)

    @property
    def file(self) -> Path | None:
        """Where the predictions go, if not to stdout."""
        return self.json_file or self.csv or self.label_studio


def write_predictions(output: Output, predictions: Iterator[FilePrediction], total: int) -> None:
    """Writes `total` predictions as they arrive; files and JSON on stdout appear when they are complete."""
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # file names need not be UTF-8
    console = Console() if sys.stdout.isatty() else Console(stderr=True)
    progress = Progress(BarColumn(), MofNCompleteColumn(), TextColumn("pictures, left"),
                        TimeRemainingColumn(compact=True), console=console, transient=True,
                        redirect_stdout=sys.stdout.isatty(),
                        disable=total < MIN_FOR_PROGRESS or not sys.stderr.isatty())
    written = f"{output.file}: {total} pictures"
    with contextlib.closing(predictions), progress:  # type: ignore[type-var]
        counted = progress.track(predictions, total=total)
        if output.file is not None:
            if output.csv is not None:
                write_csv(output.csv, COLUMNS, _rows(counted), "\n")
            elif output.label_studio is not None:
                written = write_tasks(output.label_studio, list(counted), output.threshold)
            else:
                write_text(output.file, _as_json(counted))
        elif output.json:
            print(_as_json(counted), end="")
        elif sys.stdout.isatty():
            _print_tables(console, counted, output.threshold)
        else:
            for file, prediction in counted:
                for scored in prediction.labels:
                    print(f"{file}\t{scored.label}\t{scored.probability:.4f}")
    if output.file is not None:
        print(written, file=sys.stderr)


def _as_json(predictions: Iterable[FilePrediction]) -> str:
    """{"pictures": [{"file": …, "model": …, "version": …, "labels": [{"label": …, "probability": …}, …],
    "activation": "sigmoid", "softmax" or null, "calibration": "platt", "temperature" or null, if not calibrated}, …]};
    a picture that failed also has an "error"."""
    entries = []
    for file, prediction in predictions:
        entry = {"file": file, "model": prediction.model, "version": prediction.version,
                 "labels": [{"label": scored.label, "probability": scored.probability} for scored in prediction.labels],
                 "activation": prediction.activation or None, "calibration": prediction.calibration or None}
        if prediction.error is not None:
            entry["error"] = prediction.error
        entries.append(entry)
    return json.dumps({"pictures": entries}, indent=2, ensure_ascii=False) + "\n"


def _rows(predictions: Iterable[FilePrediction]) -> Iterator[tuple[object, ...]]:
    """Of the CSV: one per label; a picture that has none gets one without a label."""
    for file, prediction in predictions:
        labels = [(scored.label, f"{scored.probability:.6f}") for scored in prediction.labels] or [("", "")]
        for label in labels:
            yield file, prediction.model, prediction.version, *label, prediction.error


def _print_tables(console: Console, predictions: Iterable[FilePrediction], threshold: float | None) -> None:
    """A small table per picture, then the name of the model."""
    width, last = MIN_LABEL_WIDTH, None
    for file, prediction in predictions:
        if prediction.error is not None:
            continue
        last = prediction
        width = max(width, *(cell_len(scored.label) for scored in prediction.labels), 0)
        console.print(Text(file, style="bold", overflow="fold"))
        console.print(Padding(_table(prediction, threshold, width), (0, 0, 1, 2)))
    if last is not None:
        version = "" if last.version is None else f", version {last.version}"
        served = f"calibrated: {last.calibration}" if last.calibration else "not calibrated"
        kind = f" ({last.activation}, {served})" if last.activation else ""
        console.print(Text(f"model {last.model}{version}{kind}; highlighted: {last.seen_rule(threshold)}",
                           style="dim"))


def _table(prediction: Prediction, threshold: float | None, label_width: int) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(width=label_width, no_wrap=True)
    table.add_column(width=len("100.0 %"), justify="right", no_wrap=True)
    table.add_column(ratio=1)
    seen_labels = prediction.seen(threshold)
    for scored in prediction.labels:
        seen = scored in seen_labels
        style = f"bold {SEEN}" if seen else "dim"
        percent = f"{scored.probability:.1%}".replace("%", " %")
        table.add_row(Text(scored.label, style=style), Text(percent, style=style),
                      Bar(1, 0, scored.probability, color=SEEN if seen else "bright_black"))
    return table
