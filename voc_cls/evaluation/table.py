"""The tables of an evaluation, for a terminal of 80 columns: what both tasks have, and the cells they are made of."""

from __future__ import annotations

from math import isnan

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from voc_cls.evaluation.average_precision import Evaluation
from voc_cls.evaluation.bootstrap import Interval, Intervals

BAR_WIDTH = 14


def evaluation_table(evaluation: Evaluation, intervals: Intervals | None = None) -> Table:
    """Classes, both average precisions in percent, positives; the means and the `difficult` policy below."""
    table = Table(
        title=f"Average precision, {escape(evaluation.split)} ({evaluation.pictures:,} pictures)",
        caption=f"area: VOC2010+, 11-point: VOC2007; difficult objects: {evaluation.difficult.participle}"
        + ("" if intervals is None else "\n±: half of the 95 % confidence interval"),
    )
    table.add_column("class")
    table.add_column("AP area %", justify="right")
    table.add_column("11-point %", justify="right")
    table.add_column("positives", justify="right")
    table.add_column("", min_width=BAR_WIDTH)
    for result in evaluation.classes:
        interval = None if intervals is None else intervals.classes[result.name]
        table.add_row(Text(result.name), percent(result.ap, interval), percent(result.ap_11pt),
                      f"{result.positives:,}", bar(result.ap))
    table.add_section()
    table.add_row("mean", percent(evaluation.map, None if intervals is None else intervals.map),
                  percent(evaluation.map_11pt, None if intervals is None else intervals.map_11pt),
                  f"{sum(result.positives for result in evaluation.classes):,}", bar(evaluation.map), style="bold")
    return table


def arrow(*errors: float) -> str:
    """Errors 0-1 in percent, before and after something."""
    return " → ".join(percent(error) for error in errors)


def percent(value: float, interval: Interval | None = None) -> str:
    """A share 0-1 in percent, without the sign, with half of its interval; – where it is not defined."""
    if isnan(value):
        return "–"
    spread = "" if interval is None or isnan(interval.low) else f" ± {100 * interval.half_width:.1f}"
    return f"{100 * value:.1f}{spread}"


def bar(value: float) -> Text:
    """A share 0-1 as a bar."""
    return Text("" if isnan(value) else "█" * round(value * BAR_WIDTH), style="cyan")
