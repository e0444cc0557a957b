"""The tables of a report, for a terminal of 80 columns."""

from __future__ import annotations

from math import isnan

from rich.console import Group
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from voc_cls.data.statistics import count_table
from voc_cls.evaluation.bootstrap import Interval
from voc_cls.evaluation.compare import Comparison
from voc_cls.evaluation.decisions import TOP_K, Confusion, Overall
from voc_cls.evaluation.objects import LARGE, SMALL
from voc_cls.evaluation.report.multilabel import MultilabelReport
from voc_cls.evaluation.report.page import Report, percent
from voc_cls.evaluation.report.singlelabel import SinglelabelReport

BAR_WIDTH = 14
WIDEST_MATRIX = 12
"""Classes up to which the confusion matrix fits into 80 columns; of more, the most frequent confusions are shown."""
MOST_CONFUSIONS, MOST_CHANGES = 10, 12
NAME_WIDTH, CELL_WIDTH = 14, 4
"""Characters of a class's name, and of a number of the matrix."""


def report_tables(report: Report) -> Group:
    if isinstance(report, MultilabelReport):
        tables = [average_precision_table(report), decisions_table(report)]
        if report.sizes:
            tables.append(objects_table(report))
    else:
        assert isinstance(report, SinglelabelReport)
        tables = [summary_table(report), classes_table(report)]
        confusion = report.scores.confusion
        if confusion.pairs(1):
            tables.append(matrix_table(confusion) if len(confusion.labels) <= WIDEST_MATRIX else
                          confusions_table(confusion))
    return Group(*[part for table in tables for part in (table, "")][:-1])


def average_precision_table(report: MultilabelReport) -> Table:
    """Classes, both average precisions in percent, positives; the means and the `difficult` policy below."""
    result, intervals = report.average_precisions, report.intervals
    table = Table(
        "class", *_numbers("AP area %", "11-point %", "positives"), Column("", min_width=BAR_WIDTH),
        title=f"Average precision, {escape(result.split)} ({result.pictures:,} pictures)",
        caption=f"area: VOC2010+, 11-point: VOC2007; difficult objects: {result.difficult.participle}\n"
        "±: half of the 95 % confidence interval",
    )
    for of_class in result.classes:
        table.add_row(Text(of_class.name), with_interval(of_class.ap, intervals.classes[of_class.name]),
                      percent(of_class.ap_11pt), f"{of_class.positives:,}", bar(of_class.ap))
    table.add_section()
    table.add_row("mean", with_interval(result.map, intervals.metrics["map"]),
                  with_interval(result.map_11pt, intervals.metrics["map_11pt"]),
                  f"{sum(of_class.positives for of_class in result.classes):,}", bar(result.map), style="bold")
    return table


def decisions_table(report: MultilabelReport) -> Table:
    """Precision, recall and F1 in percent at every class's threshold, and the expected calibration error.

    Below: averaged over classes (CP, CR, CF1), pooled (OP, OR, OF1), and with the TOP_K most probable labels each.
    """
    scores, thresholds = report.scores, report.thresholds
    table = Table(
        "class", *_numbers("threshold", "precision", "recall", "F1", "ECE"),
        title="Decisions by thresholds " + ("of 0.5" if thresholds.split is None else
                                            f"chosen on {escape(thresholds.split)}") + ", in percent",
        caption="dim: too few positives for a threshold of its own\n" * any(
            threshold.chosen == "shared" for threshold in thresholds.classes.values())
        + "ECE: expected calibration error" + (f" → with {report.calibration}" if report.calibration else ""),
    )
    stages = [stage for stage in (report.reliability, report.calibrated) if stage]
    for result, threshold in zip(scores.classes, thresholds.classes.values(), strict=True):
        table.add_row(Text(result.name),
                      Text(f"{threshold.threshold:.3f}", style="dim" if threshold.chosen == "shared" else ""),
                      percent(result.precision), percent(result.recall), percent(result.f1),
                      arrow(*(stage.classes[result.name] for stage in stages)))
    table.add_section()
    _overall(table, ("by class", "pooled"), scores.overall,
             (arrow(*(stage.class_ece for stage in stages)), arrow(*(stage.ece for stage in stages))),
             (report.intervals.metrics["cf1"], report.intervals.metrics["of1"]))
    if scores.top_k is not None:
        _overall(table, (f"top {TOP_K} class", f"top {TOP_K} pooled"), scores.top_k)
    return table


def _overall(table: Table, names: tuple[str, str], overall: Overall, errors: tuple[str, str] = ("", ""),
             intervals: tuple[Interval, Interval] | tuple[None, None] = (None, None)) -> None:
    means, pooled = (overall.cp, overall.cr, overall.cf1), (overall.op, overall.or_, overall.of1)
    for name, (precision, recall, f1), error, interval in zip(names, (means, pooled), errors, intervals, strict=True):
        table.add_row(name, "", percent(precision), percent(recall), with_interval(f1, interval), error, style="bold")


def objects_table(report: MultilabelReport) -> Table:
    """Average precisions by the size of the objects, with the positives of that size, and where heat maps point."""
    columns = {size: [*(f"{percent(result.ap)} ({result.positives:,})" for result in precisions.classes),
                      with_interval(precisions.map, intervals.metrics["map"])]
               for size, (precisions, intervals) in report.sizes.items()}
    caption = (f"small: below {percent(SMALL)} % of the picture, large: from {percent(LARGE)} %\n"
               "fewer positives lower AP: compare models, not sizes")
    if pointing := report.pointing:
        columns["pointing"] = [*map(percent, pointing.classes.values()), percent(pointing.accuracy)]
        caption += f"\npointing: heat maps that hit a box; centres {percent(pointing.centre)}"
    return count_table(columns, report.dataset.classes, "mean", caption=caption,
                       title="AP area by the largest object (positives), in percent")


def comparison_tables(comparison: Comparison) -> Group:
    """The metrics of both models in percent, and the labels that changed most."""
    title = f"{comparison.dataset.name} ({len(comparison.dataset):,} pictures), in percent"
    caption = ("A: {}\nB: {}\n".format(*comparison.models) + "interval: paired bootstrap over the pictures\n"
               "corrected, broken: decisions that only B, only A has right")
    metrics = Table("", "A", "B", "B − A", "95 % interval", "corrected", "broken",
                    title=Text(f"Average precision (area), {title}"), caption=Text(caption))
    for entry in comparison.differences:
        metrics.add_row(Text(entry.name), percent(entry.a), percent(entry.b), *entry.texts, str(entry.corrected),
                        str(entry.broken))
    changes = Table("picture", "label", "on it", "A %: rank", "B %: rank", "B", title="What changed most")
    for change in comparison.changes[:MOST_CHANGES]:
        changes.add_row(Text(change.file), Text(change.label), "yes" if change.true else "no", *(
            f"{percent(probability)}: {rank}"
            for probability, rank in zip(change.probabilities, change.ranks, strict=True)), change.verdict)
    return Group(metrics, "", changes)


def summary_table(report: SinglelabelReport) -> Table:
    ranking, scores, intervals = report.average_precisions, report.scores, report.intervals.metrics
    table = Table("", *_numbers(""), Column("", min_width=2), show_header=False,
                  title=f"Accuracy, {escape(ranking.split)} ({ranking.pictures:,} pictures), in percent",
                  caption="±: half of the 95 % confidence interval")
    table.add_row("accuracy", with_interval(scores.accuracy, intervals["accuracy"]), bar(scores.accuracy), style="bold")
    if scores.top_k is not None:
        table.add_row(f"top-{scores.top_k.k} accuracy",
                      with_interval(scores.top_k.accuracy, intervals[scores.top_k.name]), bar(scores.top_k.accuracy))
    table.add_row("log loss (nats)", f"{scores.log_loss:.4f}", "")
    stages = [stage for stage in (report.reliability, report.calibrated) if stage]
    table.add_row("calibration error (ECE)", arrow(*(stage.ece for stage in stages)),
                  f"with {report.calibration}" if report.calibration else "")
    return table


def classes_table(report: SinglelabelReport) -> Table:
    """Precision, recall and F1 of the most probable class, and the average precision, in percent."""
    rates, macro, ranking, intervals = (report.scores.classes, report.scores.macro, report.average_precisions,
                                        report.intervals.metrics)
    return count_table({
        "precision": [*(percent(of_class.precision) for of_class in rates), percent(macro.precision)],
        "recall": [*(percent(of_class.recall) for of_class in rates), percent(macro.recall)],
        "F1": [*(percent(of_class.f1) for of_class in rates), with_interval(macro.f1, intervals["macro_f1"])],
        "AP": [*(percent(ranked.ap) for ranked in ranking.classes), with_interval(ranking.map, intervals["map"])],
        "pictures": [*(of_class.positives for of_class in rates), sum(of_class.positives for of_class in rates)],
    }, [of_class.name for of_class in rates], "mean", title="Classes, in percent",
        caption="AP: area (VOC2010+) of one class against the rest; mean: unweighted over classes")


def matrix_table(confusion: Confusion) -> Table:
    """Rows are true classes, columns, by number, predicted ones."""
    table = Table(title="Confusion, in pictures", caption="row: true class; column: predicted class", padding=0,
                  box=None, show_edge=False)
    table.add_column("", justify="right", style="dim")
    table.add_column("", width=NAME_WIDTH, no_wrap=True)
    for number in range(1, len(confusion.labels) + 1):
        table.add_column(Text(str(number), style="dim"), justify="right", min_width=CELL_WIDTH + 1, no_wrap=True)
    for row, name in enumerate(confusion.labels):
        table.add_row(str(row + 1), Text(f" {name}", overflow="ellipsis"),
                      *(_count(int(count), right=row == column) for column, count in enumerate(confusion.counts[row])))
    return table


def confusions_table(confusion: Confusion) -> Table:
    """The most frequent confusions: true class, predicted class, how many pictures."""
    table = Table(Column("true class", overflow="fold"), Column("predicted", overflow="fold"),
                  *_numbers("pictures", "share %"), title="Most frequent confusions",
                  caption="share: of the pictures of the true class")
    for pair in confusion.pairs(MOST_CONFUSIONS):
        table.add_row(Text(confusion.labels[pair.truth]), Text(confusion.labels[pair.predicted]), f"{pair.count:,}",
                      percent(pair.share))
    return table


def _numbers(*headings: str) -> list[Column]:
    return [Column(heading, justify="right") for heading in headings]


def arrow(*errors: float) -> str:
    """Errors 0-1 in percent, before and after something."""
    return " → ".join(percent(error) for error in errors)


def with_interval(value: float, interval: Interval | None) -> str:
    """A number in 0-1 in percent, without the sign, with half of its interval."""
    spread = "" if interval is None or isnan(interval.low) else f" ± {100 * interval.half_width:.1f}"
    return f"{percent(value)}{spread}"


def bar(value: float) -> Text:
    return Text("" if isnan(value) else "█" * round(value * BAR_WIDTH), style="cyan")


def _count(count: int, *, right: bool) -> Text:
    return Text(f"{count}" if count else "·", style="bold" if right else "red" if count else "dim")
