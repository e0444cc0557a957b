"""The tables of an evaluation, for a terminal of 80 columns."""

from __future__ import annotations

from math import isnan

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from voc_cls.evaluation.assess import Assessment
from voc_cls.evaluation.average_precision import Evaluation
from voc_cls.evaluation.bootstrap import Interval, Intervals
from voc_cls.evaluation.multilabel import TOP_K, Overall

BAR_WIDTH = 14


def assessment_tables(assessment: Assessment) -> Group:
    """Average precisions, then decisions and calibration."""
    return Group(evaluation_table(assessment.evaluation, assessment.intervals), "", decisions_table(assessment))


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
        table.add_row(Text(result.name), _percent(result.ap, interval), _percent(result.ap_11pt),
                      f"{result.positives:,}", _bar(result.ap))
    table.add_section()
    table.add_row("mean", _percent(evaluation.map, None if intervals is None else intervals.map),
                  _percent(evaluation.map_11pt, None if intervals is None else intervals.map_11pt),
                  f"{sum(result.positives for result in evaluation.classes):,}", _bar(evaluation.map), style="bold")
    return table


def decisions_table(assessment: Assessment) -> Table:
    """Precision, recall and F1 in percent at every class's threshold, and how far probabilities are from frequencies.

    Below: averaged over classes (CP, CR, CF1), pooled (OP, OR, OF1), and with the TOP_K most probable labels each.
    """
    scores, thresholds, errors = assessment.scores, assessment.thresholds, assessment.calibrated
    table = Table(
        title="Decisions by thresholds " + ("of 0.5" if thresholds.split is None else
                                            f"chosen on {escape(thresholds.split)}") + ", in percent",
        caption="dim: too few positives for a threshold of its own\n" * any(
            threshold.chosen == "shared" for threshold in thresholds.classes) + _calibration(assessment),
    )
    table.add_column("class")
    for heading in ("threshold", "precision", "recall", "F1", "ECE"):
        table.add_column(heading, justify="right")
    stages = [stage for stage in (errors.raw, errors.temperature) if stage is not None]
    for result, threshold in zip(scores.classes, thresholds.classes, strict=True):
        table.add_row(Text(result.name),
                      Text(f"{result.threshold:.3f}", style="dim" if threshold.chosen == "shared" else ""),
                      _percent(result.precision), _percent(result.recall), _percent(result.f1),
                      _arrow(*(stage.classes[result.name] for stage in stages)))
    table.add_section()
    _overall(table, ("by class", "pooled"), scores.overall,
             (_arrow(*(stage.class_ece for stage in stages)), _arrow(*(stage.ece for stage in stages))),
             (assessment.intervals.cf1, assessment.intervals.of1))
    if scores.top_k is not None:
        _overall(table, (f"top {TOP_K} class", f"top {TOP_K} pooled"), scores.top_k)
    return table


def _overall(table: Table, names: tuple[str, str], overall: Overall, errors: tuple[str, str] = ("", ""),
             intervals: tuple[Interval, Interval] | tuple[None, None] = (None, None)) -> None:
    means, pooled = (overall.cp, overall.cr, overall.cf1), (overall.op, overall.or_, overall.of1)
    for name, (precision, recall, f1), error, interval in zip(names, (means, pooled), errors, intervals, strict=True):
        table.add_row(name, "", _percent(precision), _percent(recall), _percent(f1, interval), error, style="bold")


def _calibration(assessment: Assessment) -> str:
    fitted, platt = assessment.calibration, assessment.calibrated.platt
    if fitted is None or platt is None:
        return "ECE: expected calibration error"
    return (f"ECE: expected calibration error → with temperature {fitted.temperature:.2f}\n"
            f"(with Platt scaling {_percent(platt.class_ece)} by class, {_percent(platt.ece)} pooled)")


def _arrow(*errors: float) -> str:
    return " → ".join(_percent(error) for error in errors)


def _percent(value: float, interval: Interval | None = None) -> str:
    if isnan(value):
        return "–"
    spread = "" if interval is None or isnan(interval.low) else f" ± {100 * interval.half_width:.1f}"
    return f"{100 * value:.1f}{spread}"


def _bar(value: float) -> Text:
    return Text("" if isnan(value) else "█" * round(value * BAR_WIDTH), style="cyan")
