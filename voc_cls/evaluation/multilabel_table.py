"""The tables of an evaluation of pictures with any number of classes, for a terminal of 80 columns."""

from __future__ import annotations

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from voc_cls.evaluation.bootstrap import Interval
from voc_cls.evaluation.multilabel import TOP_K, Overall
from voc_cls.evaluation.multilabel_assessment import MultilabelAssessment
from voc_cls.evaluation.table import arrow, evaluation_table, percent


def multilabel_tables(assessment: MultilabelAssessment) -> Group:
    """Average precisions, then decisions and calibration."""
    return Group(evaluation_table(assessment.evaluation, assessment.intervals), "", decisions_table(assessment))


def decisions_table(assessment: MultilabelAssessment) -> Table:
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
                      percent(result.precision), percent(result.recall), percent(result.f1),
                      arrow(*(stage.classes[result.name] for stage in stages)))
    table.add_section()
    _overall(table, ("by class", "pooled"), scores.overall,
             (arrow(*(stage.class_ece for stage in stages)), arrow(*(stage.ece for stage in stages))),
             (assessment.intervals.cf1, assessment.intervals.of1))
    if scores.top_k is not None:
        _overall(table, (f"top {TOP_K} class", f"top {TOP_K} pooled"), scores.top_k)
    return table


def _overall(table: Table, names: tuple[str, str], overall: Overall, errors: tuple[str, str] = ("", ""),
             intervals: tuple[Interval, Interval] | tuple[None, None] = (None, None)) -> None:
    means, pooled = (overall.cp, overall.cr, overall.cf1), (overall.op, overall.or_, overall.of1)
    for name, (precision, recall, f1), error, interval in zip(names, (means, pooled), errors, intervals, strict=True):
        table.add_row(name, "", percent(precision), percent(recall), percent(f1, interval), error, style="bold")


def _calibration(assessment: MultilabelAssessment) -> str:
    fitted, platt = assessment.calibration, assessment.calibrated.platt
    if fitted is None or platt is None:
        return "ECE: expected calibration error"
    return (f"ECE: expected calibration error → with temperature {fitted.temperature:.2f}\n"
            f"(with Platt scaling {percent(platt.class_ece)} by class, {percent(platt.ece)} pooled)")
