"""The tables of an evaluation of pictures of one class each, for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from voc_cls.evaluation.singlelabel import Confusion
from voc_cls.evaluation.singlelabel_assessment import SinglelabelAssessment
from voc_cls.evaluation.table import arrow, bar, percent

WIDEST_MATRIX = 12
"""Classes up to which the confusion matrix fits into 80 columns; of more, the most frequent confusions are shown."""
MOST_CONFUSIONS = 10
NAME_WIDTH, CELL_WIDTH = 14, 4
"""Characters of a class's name, and of a number of the matrix."""


def singlelabel_tables(assessment: SinglelabelAssessment) -> Group:
    """How often it is right, class by class, and what is taken for what."""
    parts = [summary_table(assessment), classes_table(assessment)]
    confusion = assessment.scores.confusion
    if confusion.pairs(1):
        parts.append(matrix_table(confusion) if len(confusion.labels) <= WIDEST_MATRIX else confusions_table(confusion))
    return Group(*_apart(parts))


def summary_table(assessment: SinglelabelAssessment) -> Table:
    """The numbers about all pictures."""
    evaluation, scores, intervals = assessment.evaluation, assessment.scores, assessment.intervals
    table = Table(title=f"Accuracy, {escape(evaluation.split)} ({evaluation.pictures:,} pictures), in percent",
                  caption="±: half of the 95 % confidence interval", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column("", min_width=2)
    table.add_row("accuracy", percent(scores.accuracy, intervals.accuracy), bar(scores.accuracy), style="bold")
    if scores.top_k is not None:
        table.add_row(f"among the {scores.top_k.k} most probable", percent(scores.top_k.accuracy, intervals.top_k),
                      bar(scores.top_k.accuracy))
    table.add_row("log loss (nats)", f"{scores.log_loss:.4f}", "")
    stages = [stage for stage in (assessment.calibrated.raw, assessment.calibrated.temperature) if stage is not None]
    fitted = assessment.calibration
    table.add_row("calibration error (ECE)", arrow(*(stage.ece for stage in stages)),
                  "" if fitted is None else f"with temperature {fitted.temperature:.2f}")
    return table


def classes_table(assessment: SinglelabelAssessment) -> Table:
    """Precision, recall and F1 of the most probable class, and the average precision, in percent."""
    scores, intervals = assessment.scores, assessment.intervals
    table = Table(title="Classes, in percent",
                  caption="AP: area (VOC2010+) of one class against the rest; mean: every class alike")
    table.add_column("class")
    for heading in ("precision", "recall", "F1", "AP", "pictures"):
        table.add_column(heading, justify="right")
    for rates, ranked in zip(scores.classes, assessment.evaluation.classes, strict=True):
        table.add_row(Text(rates.name), percent(rates.precision), percent(rates.recall), percent(rates.f1),
                      percent(ranked.ap), f"{rates.pictures:,}")
    table.add_section()
    macro = scores.macro
    table.add_row("mean", percent(macro.precision), percent(macro.recall), percent(macro.f1, intervals.macro_f1),
                  percent(assessment.evaluation.map, intervals.map),
                  f"{sum(rates.pictures for rates in scores.classes):,}", style="bold")
    return table


def matrix_table(confusion: Confusion) -> Table:
    """Rows are what is true, columns, by number, what was predicted."""
    table = Table(title="Confusion, in pictures", caption="row: what it is; column: what it was taken for", padding=0,
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
    """The most frequent confusions: what it is, what it was taken for, how many pictures."""
    table = Table(title="Most frequent confusions", caption="share: of the pictures of what it is")
    for heading in ("it is", "taken for"):
        table.add_column(heading, overflow="fold")
    for heading in ("pictures", "share %"):
        table.add_column(heading, justify="right")
    for pair in confusion.pairs(MOST_CONFUSIONS):
        table.add_row(Text(confusion.labels[pair.truth]), Text(confusion.labels[pair.predicted]), f"{pair.count:,}",
                      percent(pair.share))
    return table


def _count(count: int, *, right: bool) -> Text:
    return Text(f"{count}" if count else "·", style="bold" if right else "red" if count else "dim")


def _apart(parts: list[Table]) -> Iterator[Table | str]:
    for number, part in enumerate(parts):
        if number:
            yield ""
        yield part
