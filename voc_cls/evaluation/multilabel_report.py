"""What report.html says of a model that tells any number of classes on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.figures import Chart, precision_recall_chart
from voc_cls.evaluation.mistakes import ClassMistakes, class_mistakes, surest_hit
from voc_cls.evaluation.multilabel import Bools, decide
from voc_cls.evaluation.multilabel_assessment import MultilabelAssessment
from voc_cls.evaluation.probabilities import Floats, sigmoid
from voc_cls.evaluation.report import (
    HEAT_MAPS,
    MOST_NUMBERED,
    MOST_OF_A_KIND,
    MOST_THUMBNAILS,
    OPEN,
    HeatMaps,
    Shown,
    Subject,
    reliability_charts,
    show,
)

SECTIONS = {"summary": "Summary", "classes": "Classes", "curves": "Precision and recall", "learning": "Learning",
            "together": "Co-occurrence", "reliability": "Reliability", "mistakes": "Mistakes", "where": "Grad-CAM",
            "made": "How it was made"}


@dataclass(frozen=True)
class Row:
    """One cell row of a co-occurrence matrix: for each class, how many pictures with `name` have it too."""

    name: str
    counts: tuple[int, ...]
    shares: tuple[float, ...]


def multilabel_page(subject: Subject, assessment: MultilabelAssessment) -> dict[str, Any]:
    """What the template is filled with; about the classes of the assessment, which may be some of the data set's."""
    subject = about(subject, [result.name for result in assessment.evaluation.classes])
    dataset, logits = subject.dataset, subject.logits
    probabilities, thresholds = sigmoid(logits), assessment.thresholds.values
    mistakes = worst_mistakes(dataset, probabilities, assessment)
    decided = decide(probabilities, thresholds) & ~dataset.ignored
    return {
        "template": "multilabel.html", "sections": SECTIONS,
        "classes": list(zip(assessment.evaluation.classes, assessment.scores.classes, assessment.thresholds.classes,
                            strict=True)),
        "curves": curves(dataset, logits, assessment),
        "reliability": multilabel_reliability(assessment),
        "matrices": [("What is on the pictures", co_occurrence(dataset, (dataset.labels == 1) & ~dataset.ignored)),
                     ("What was seen on them", co_occurrence(dataset, decided))],
        "numbered": len(dataset.classes) <= MOST_NUMBERED,
        "mistakes": [(dataset.classes[of_class.column], of_class, [show(dataset, e, "wrong") for e in of_class.wrong],
                      [show(dataset, e, "missed") for e in of_class.missed]) for of_class in mistakes],
        "open_classes": OPEN,
        "says": {"right": "recognised", "wrong": "not there", "missed": "missed", "truth": "on it"},
        "cams": explained(dataset, probabilities, thresholds, mistakes, subject.heat_maps),
    }


def about(subject: Subject, classes: Sequence[str]) -> Subject:
    """The same pictures with these classes alone."""
    columns = [subject.dataset.classes.index(name) for name in classes]
    return replace(subject, dataset=subject.dataset.only(columns), logits=subject.logits[:, columns],
                   heat_maps=lambda paths, shown: subject.heat_maps(paths, [columns[column] for column in shown]))


def curves(dataset: Dataset, logits: Floats, assessment: MultilabelAssessment) -> list[tuple[Chart, float]]:
    """(precision/recall curve, average precision) of the classes that have positives."""
    found = []
    for column, (result, decisions) in enumerate(zip(assessment.evaluation.classes, assessment.scores.classes,
                                                     strict=True)):
        counted = ~dataset.ignored[:, column]
        if result.positives:
            chart = precision_recall_chart(result.name, dataset.labels[counted, column] == 1, logits[counted, column],
                                           (decisions.recall, decisions.precision), decisions.threshold)
            found.append((chart, result.ap))
    return found


def multilabel_reliability(assessment: MultilabelAssessment) -> list[tuple[Chart, float]]:
    """(reliability diagram, expected calibration error) as answered and, where they were fitted, rescaled."""
    errors, fitted = assessment.calibrated, assessment.calibration
    return reliability_charts("labels", errors.raw, [] if fitted is None else [
        (f"logits divided by {fitted.temperature:.2f}", errors.temperature),
        ("Platt scaling, class by class", errors.platt)])


def co_occurrence(dataset: Dataset, present: Bools) -> list[Row]:
    """How often classes are on the same pictures; classes that are on none are left out of rows, not of columns."""
    counts = present.T.astype(int) @ present
    own = counts.diagonal()
    return [Row(name, tuple(counts[column].tolist()), tuple((counts[column] / max(own[column], 1)).tolist()))
            for column, name in enumerate(dataset.classes)]


def worst_mistakes(dataset: Dataset, probabilities: Floats, assessment: MultilabelAssessment) -> list[ClassMistakes]:
    """Of every class that has any, the class with the most of them first."""
    most = max(1, min(MOST_OF_A_KIND, MOST_THUMBNAILS // (2 * len(dataset.classes))))
    found = [class_mistakes(dataset, probabilities, assessment.thresholds.values, column, most)
             for column in range(len(dataset.classes))]
    return sorted((of_class for of_class in found if of_class.in_all), key=lambda of_class: -of_class.in_all)


def explained(dataset: Dataset, probabilities: Floats, thresholds: Floats, mistakes: Sequence[ClassMistakes],
              heat_maps: HeatMaps) -> list[Shown]:
    """A few of what was recognised, wrongly seen and missed, with Grad-CAM, every class at most once in each."""
    hits = [surest_hit(dataset, probabilities, thresholds, column) for column in range(len(dataset.classes))]
    kinds = {"right": sorted((hit for hit in hits if hit), key=lambda hit: -hit.probability),
             "wrong": sorted((of_class.wrong[0] for of_class in mistakes if of_class.wrong),
                             key=lambda example: -example.probability),
             "missed": sorted((of_class.missed[0] for of_class in mistakes if of_class.missed),
                              key=lambda example: example.probability)}
    chosen = [(kind, example) for kind, examples in kinds.items() for example in examples[:HEAT_MAPS]]
    maps = heat_maps([dataset.paths[example.row] for _, example in chosen], [example.column for _, example in chosen])
    return [show(dataset, example, kind, heat) for (kind, example), heat in zip(chosen, maps, strict=True)]
