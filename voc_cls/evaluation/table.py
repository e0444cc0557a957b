"""The table of average precisions, for a terminal."""

from __future__ import annotations

from math import isnan

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from voc_cls.evaluation.average_precision import Evaluation

BAR_WIDTH = 20


def evaluation_table(evaluation: Evaluation) -> Table:
    """Classes, both average precisions in percent, positives; the means and the `difficult` policy below."""
    table = Table(
        title=f"Average precision, {escape(evaluation.split)} ({evaluation.pictures:,} pictures)",
        caption=f"area: VOC2010+, 11-point: VOC2007; difficult objects: {evaluation.difficult.participle}",
    )
    table.add_column("class")
    table.add_column("AP area %", justify="right")
    table.add_column("AP 11-pt %", justify="right")
    table.add_column("positives", justify="right")
    table.add_column("", min_width=BAR_WIDTH)
    for result in evaluation.classes:
        table.add_row(result.name, _percent(result.ap), _percent(result.ap_11pt), f"{result.positives:,}",
                      _bar(result.ap))
    table.add_section()
    table.add_row("mean", _percent(evaluation.map), _percent(evaluation.map_11pt),
                  f"{sum(result.positives for result in evaluation.classes):,}", _bar(evaluation.map), style="bold")
    return table


def _percent(value: float) -> str:
    return "–" if isnan(value) else f"{100 * value:.1f}"


def _bar(value: float) -> Text:
    return Text("" if isnan(value) else "█" * round(value * BAR_WIDTH), style="cyan")
