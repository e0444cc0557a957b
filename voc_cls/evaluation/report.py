"""report.html: everything about an evaluation in one file that asks for no other."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.assess import Assessment
from voc_cls.evaluation.figures import Chart, learning_charts, precision_recall_chart, reliability_chart
from voc_cls.evaluation.gradcam import overlay
from voc_cls.evaluation.mistakes import ClassMistakes, Example, class_mistakes, surest_hit
from voc_cls.evaluation.multilabel import Bools, Floats, decide, probabilities_of
from voc_cls.evaluation.thumbnails import data_uri, thumbnail
from voc_cls.files import write_text

MOST_THUMBNAILS = 160
"""Of mistakes, in the whole page; about 14 kB each."""
MOST_OF_A_KIND = 8
"""Thumbnails of one class's mistakes of one kind."""
OPEN_CLASSES = 6
"""Classes whose mistakes are shown without a click: those with the most."""
MOST_NUMBERED = 24
"""Classes up to which the co-occurrence matrices have room for numbers."""
HEAT_MAPS = 4
"""Of each kind: recognised, wrongly seen, missed."""

HeatMaps = Callable[[Sequence[Path], Sequence[int]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Run:
    """What the page says about how the model was made: config.yaml and the lines of metrics.jsonl."""

    name: str
    config: dict[str, Any]
    metrics: tuple[dict[str, Any], ...]
    weights: str = "best"
    tta: str = "none"


@dataclass(frozen=True)
class Shown:
    """An example as the page shows it: pictures as data: addresses, `truth` the picture's classes."""

    file: str
    picture: str
    heat: str
    name: str
    probability: float
    truth: str
    kind: str


@dataclass(frozen=True)
class Row:
    """One cell row of a co-occurrence matrix: for each class, how many pictures with `name` have it too."""

    name: str
    counts: tuple[int, ...]
    shares: tuple[float, ...]


def write_report(path: Path, run: Run, dataset: Dataset, logits: Floats, assessment: Assessment,
                 heat_maps: HeatMaps) -> None:
    """Writes the page about `logits` [N, classes] of the pictures of `dataset`, whole or not at all.

    `assessment` is that of the same logits. heat_maps(paths, columns): Grad-CAM, float32 [n, h, w].
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("voc_cls.evaluation"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "number": number}
    template = environment.get_template("report.html")
    write_text(path, template.render(page(run, dataset, logits, assessment, heat_maps)))


def page(run: Run, dataset: Dataset, logits: Floats, assessment: Assessment, heat_maps: HeatMaps) -> dict[str, Any]:
    """What the template is filled with."""
    probabilities, thresholds = probabilities_of(logits), assessment.thresholds.values
    mistakes = worst_mistakes(dataset, probabilities, assessment)
    decided = decide(probabilities, thresholds) & ~dataset.ignored
    return {
        "run": run, "dataset": dataset, "assessment": assessment,
        "classes": list(zip(assessment.evaluation.classes, assessment.scores.classes, assessment.thresholds.classes,
                            strict=True)),
        "curves": curves(dataset, logits, assessment),
        "learning": learning_charts(run.metrics),
        "reliability": reliability_charts(assessment),
        "matrices": [("What is on the pictures", co_occurrence(dataset, (dataset.labels == 1) & ~dataset.ignored)),
                     ("What was seen on them", co_occurrence(dataset, decided))],
        "numbered": len(dataset.classes) <= MOST_NUMBERED,
        "mistakes": [(dataset.classes[of_class.column], of_class, [show(dataset, e, "wrong") for e in of_class.wrong],
                      [show(dataset, e, "missed") for e in of_class.missed]) for of_class in mistakes],
        "open_classes": OPEN_CLASSES,
        "config": config_groups(run.config),
        "command": shlex.join(map(str, run.config["provenance"]["command"])),
        "cams": explained(dataset, probabilities, thresholds, mistakes, heat_maps),
    }


def curves(dataset: Dataset, logits: Floats, assessment: Assessment) -> list[tuple[Chart, float]]:
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


def reliability_charts(assessment: Assessment) -> list[tuple[Chart, float]]:
    """(reliability diagram, expected calibration error) as answered and, where they were fitted, rescaled."""
    errors, fitted = assessment.calibrated, assessment.calibration
    stages = [("as the network answers", errors.raw)]
    if fitted is not None and errors.temperature is not None and errors.platt is not None:
        stages += [(f"logits divided by {fitted.temperature:.2f}", errors.temperature),
                   ("Platt scaling, class by class", errors.platt)]
    return [(reliability_chart(title, stage), stage.ece) for title, stage in stages]


def co_occurrence(dataset: Dataset, present: Bools) -> list[Row]:
    """How often classes are on the same pictures; classes that are on none are left out of rows, not of columns."""
    counts = present.T.astype(int) @ present
    own = counts.diagonal()
    return [Row(name, tuple(counts[column].tolist()), tuple((counts[column] / max(own[column], 1)).tolist()))
            for column, name in enumerate(dataset.classes)]


def worst_mistakes(dataset: Dataset, probabilities: Floats, assessment: Assessment) -> list[ClassMistakes]:
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


def show(dataset: Dataset, example: Example, kind: str, heat: npt.NDArray[np.float32] | None = None) -> Shown:
    """Reads the picture."""
    path, small = dataset.paths[example.row], thumbnail(dataset.paths[example.row])
    truth = [name for name, label in zip(dataset.classes, dataset.labels[example.row], strict=True) if label == 1]
    return Shown(path.name, data_uri(small), "" if heat is None else data_uri(overlay(small, heat)),
                 dataset.classes[example.column], example.probability, ", ".join(truth) or "none of the classes", kind)


def percent(value: float | None, digits: int = 1) -> str:
    """A number in 0-1 as the page says it, without the sign; – for NaN and None."""
    return "–" if value is None or np.isnan(value) else f"{100 * value:.{digits}f}"


def number(value: int) -> str:
    """With commas."""
    return f"{value:,}"


def config_groups(config: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The flags of a run, group by group, as text; None is what was not given."""
    return {group: {key: _text(value) for key, value in values.items()}
            for group, values in config.items() if group != "provenance"}


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
