"""How an assessment is shown, by its kind: tables for a terminal, and report.html."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group

from voc_cls.evaluation.figures import learning_charts
from voc_cls.evaluation.multilabel_assessment import MultilabelAssessment
from voc_cls.evaluation.multilabel_report import multilabel_page
from voc_cls.evaluation.multilabel_table import multilabel_tables
from voc_cls.evaluation.report import Subject, config_groups, number, percent
from voc_cls.evaluation.singlelabel_assessment import SinglelabelAssessment
from voc_cls.evaluation.singlelabel_report import singlelabel_page
from voc_cls.evaluation.singlelabel_table import singlelabel_tables
from voc_cls.evaluation.tasks import Assessment
from voc_cls.files import write_text


@dataclass(frozen=True)
class Presentation:
    """One kind of assessment."""

    tables: Callable[[Any], Group]
    """For a terminal of 80 columns."""
    page: Callable[[Subject, Any], dict[str, Any]]
    """What report.html says of it; "template" is the name of the template that says it."""


PRESENTATIONS: Mapping[type, Presentation] = {
    MultilabelAssessment: Presentation(multilabel_tables, multilabel_page),
    SinglelabelAssessment: Presentation(singlelabel_tables, singlelabel_page),
}


def assessment_tables(assessment: Assessment) -> Group:
    """Everything that a terminal shows of it."""
    return PRESENTATIONS[type(assessment)].tables(assessment)


def write_report(path: Path, subject: Subject, assessment: Assessment) -> None:
    """Writes the page, whole or not at all; `assessment` is that of the subject's logits."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("voc_cls.evaluation"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "number": number}
    run, own = subject.run, PRESENTATIONS[type(assessment)].page(subject, assessment)
    write_text(path, environment.get_template(own["template"]).render({
        "run": run, "dataset": subject.dataset, "assessment": assessment, "learning": learning_charts(run.metrics),
        "config": config_groups(run.config), "command": shlex.join(map(str, run.config["provenance"]["command"])),
        **own}))
