"""How voc-predict prints: tables for a person, tab-separated lines for a pipe, JSON for a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.bar import Bar
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from voc_cls.client import Prediction

SEEN = "green"


def print_json(files: Sequence[Path], predictions: Sequence[Prediction]) -> None:
    """{"pictures": [{"file": …, "model": …, "version": …, "labels": [{"label": …, "probability": …}, …]}, …]}."""
    print(json.dumps({"pictures": [
        {"file": str(file), "model": prediction.model, "version": prediction.version,
         "labels": [{"label": scored.label, "probability": scored.probability} for scored in prediction.labels]}
        for file, prediction in zip(files, predictions, strict=True)]}, indent=2, ensure_ascii=False))


def print_answers(files: Sequence[Path], predictions: Sequence[Prediction], threshold: float) -> None:
    """A small table per picture on a terminal; `file TAB label TAB probability` lines into a pipe or a file."""
    answers = list(zip(files, predictions, strict=True))
    if not sys.stdout.isatty():
        for file, prediction in answers:
            for scored in prediction.labels:
                print(f"{file}\t{scored.label}\t{scored.probability:.4f}")
        return
    console = Console()
    width = max((len(scored.label) for prediction in predictions for scored in prediction.labels), default=0)
    for file, prediction in answers:
        console.print(Text(str(file), style="bold", overflow="fold"))
        console.print(Padding(_table(prediction, threshold, width), (0, 0, 1, 2)))
    model = predictions[-1]
    version = "" if model.version is None else f", version {model.version}"
    console.print(Text(f"model {model.model}{version}; highlighted from {threshold:.0%} on", style="dim"))


def _table(prediction: Prediction, threshold: float, label_width: int) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(width=label_width, no_wrap=True)
    table.add_column(width=len("100.0 %"), justify="right", no_wrap=True)
    table.add_column(ratio=1)
    for scored in prediction.labels:
        seen = scored.probability >= threshold
        style = f"bold {SEEN}" if seen else "dim"
        percent = f"{scored.probability:.1%}".replace("%", " %")
        table.add_row(Text(scored.label, style=style), Text(percent, style=style),
                      Bar(1, 0, scored.probability, color=SEEN if seen else "bright_black"))
    return table
