"""Images that are probably labelled wrongly: what a classifier trained on the other images says about each (out of
fold), ranked by cleanlab (Northcutt et al. 2021, Thyagarajan et al. 2022).

The classifier is a logistic regression on the features of a network. docs/decisions.md has the measurements.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voc_cls.data.dataset import Dataset
from voc_cls.data.stratify import AUTO
from voc_cls.errors import UsageError
from voc_cls.evaluation.objects import read_boxes
from voc_cls.evaluation.predictions import SEPARATOR, Bools, Floats, data_uri, thumbnail
from voc_cls.evaluation.report.page import HeatMaps, glow, render
from voc_cls.files import file_digests, write_csv, write_text

if TYPE_CHECKING:
    from rich.table import Table

PENALTY, SCALE = 0.05, 10.0
"""scikit-learn's C, the inverse strength of the L2 penalty, on features of this length."""
TEMPERATURE = 0.1
"""Of the soft minimum over an image's labels: one label that does not fit makes it suspicious."""
DOUBT = 0.2
"""Probability below which a label, or its absence, is contradicted."""

NamedBox = tuple[str, float, float, float, float]
"""Class, and left, top, width and height in percent of the picture."""


@dataclass(frozen=True)
class Suspect:
    """An image, how well its labels fit (0: wrong, 1: right), what they are and what they probably should be."""

    file: Path
    score: float
    given: tuple[str, ...]
    suggested: tuple[str, ...]
    changes: tuple[str, ...]
    """From given to suggested with the classes' probabilities, the surest first: "+dog 97 %", "−cat 2 %"."""
    boxes: tuple[NamedBox, ...] = ()
    """Of the annotated objects."""

    @property
    def changed(self) -> tuple[str, ...]:
        """The classes of `changes`."""
        return tuple(change[1:].rpartition(" ")[0].rpartition(" ")[0] for change in self.changes)

    @property
    def kind(self) -> str:
        """Whether classes are probably "missing", "wrong" or "both"; "none" without changes."""
        return {"": "none", "+": "missing", "−": "wrong"}.get(
            "".join({change[0] for change in self.changes}), "both")


@dataclass(frozen=True)
class Suspects:
    """All images of a split that can be judged, the most suspicious first; `notes` are sentences for people."""

    name: str
    images: tuple[Suspect, ...]
    notes: tuple[str, ...] = ()

    @property
    def doubted(self) -> int:
        """Images with a label that the classifier contradicts."""
        return sum(bool(suspect.changes) for suspect in self.images)

    def to_dict(self) -> dict[str, Any]:
        images = [{"file": str(suspect.file), "score": round(suspect.score, 6), "given": list(suspect.given),
                   "suggested": list(suspect.suggested)} for suspect in self.images]
        return {"split": self.name, "pictures": len(images), "doubted": self.doubted, "notes": list(self.notes),
                "suspects": images}

    def table(self, most: int) -> Table:
        from rich.table import Column, Table
        from rich.text import Text

        caption = f"{self.doubted:,} of {len(self.images):,} pictures have a label that the other pictures contradict"
        table = Table(Column("", justify="right"), Column("picture", overflow="fold"), Column("score", justify="right"),
                      Column("given", overflow="fold"), Column("probably", overflow="fold"),
                      title=f"Label errors? {self.name}", caption="\n".join([caption, *self.notes]))
        for rank, suspect in enumerate(self.images[:most], 1):
            given, changes = ", ".join(suspect.given) or "none", ", ".join(suspect.changes) or "as given"
            table.add_row(str(rank), Text(suspect.file.name), f"{suspect.score:.3f}", Text(given), Text(changes))
        return table

    def write_csv(self, path: Path) -> None:
        """Writes all images, whole or not at all: rank, file, score, and the classes with "|" between them."""
        write_csv(path, ["rank", "file", "score", "given", "suggested"], (
            [rank, suspect.file, f"{suspect.score:.6f}", SEPARATOR.join(suspect.given),
             SEPARATOR.join(suspect.suggested)] for rank, suspect in enumerate(self.images, 1)))

    def write_html(self, path: Path, most: int, run: str, heat_maps: HeatMaps | None = None) -> None:
        """Writes a page with the first `most` images that loads no other file; heat maps are of the surest change."""
        shown, doubted = self.images[:most], [suspect for suspect in self.images[:most] if suspect.changes]
        maps = () if heat_maps is None else heat_maps([suspect.file for suspect in doubted],
                                                      [suspect.changed[0] for suspect in doubted])
        heat = {suspect.file: data_uri(glow(own)) for suspect, own in zip(doubted, maps, strict=False)}
        pictures = [(suspect, data_uri(thumbnail(suspect.file)), heat.get(suspect.file)) for suspect in shown]
        classes = Counter(name for suspect in shown for name in suspect.changed)
        kinds = Counter(suspect.kind for suspect in shown)
        write_text(path, render("suspects.html", {"suspects": self, "shown": pictures, "run": run, "kinds": kinds,
                                                  "classes": sorted(classes.items())}))


def find_suspects(dataset: Dataset, features: Floats, folds: int = 5, seed: int = 0, group: str = AUTO) -> Suspects:
    """Ranks the images of a data set by how little their labels fit what the others say; ignored labels are not judged.

    features: float [N, D] of a network. folds: number of parts, divided by `seed`; each is judged by a classifier of
    the others. group: as for `Dataset.split`: images that must not judge each other. UsageError where there are fewer
    images or groups than folds.
    """
    judged = dataset.labels.sum(axis=0) >= folds
    if not judged.any():
        raise UsageError(f"{dataset.name}: no class has {folds} pictures, one for each fold; choose a larger split")
    rare = ", ".join(name for name, enough in zip(dataset.classes, judged, strict=True) if not enough)
    notes = (f"classes with fewer than {folds} pictures are not judged: {rare}",) if rare else ()
    rows = np.flatnonzero(dataset.labels[:, judged].any(axis=1) | (not dataset.single_label))
    chosen = dataset.subset(rows, dataset.name).only(np.flatnonzero(judged).tolist())
    probabilities = out_of_fold(chosen, features[rows], folds, seed, group)
    scores, fits = quality(chosen, probabilities), np.where(chosen.labels > 0, probabilities, 1 - probabilities)
    wrong: Bools = (fits < DOUBT) & ~chosen.ignored
    if dataset.single_label:
        wrong = np.eye(len(chosen.classes))[probabilities.argmax(axis=1)] != chosen.labels
    images, boxes = [], percent_boxes(dataset)
    for row in np.argsort(scores, kind="stable").tolist():
        columns = sorted(np.flatnonzero(wrong[row]).tolist(), key=fits[row].tolist().__getitem__)
        given = dataset.named(dataset.labels[rows[row]])
        suggested = {*given} ^ {chosen.classes[column] for column in columns}
        changes = (f"{'−' if chosen.labels[row, column] else '+'}{chosen.classes[column]} "
                   f"{100 * probabilities[row, column]:.0f} %" for column in columns)
        images.append(Suspect(chosen.paths[row], float(scores[row]), tuple(given),
                              tuple(name for name in dataset.classes if name in suggested), tuple(changes),
                              boxes.get(int(rows[row]), ())))
    return Suspects(dataset.name, tuple(images), notes)


def percent_boxes(dataset: Dataset) -> dict[int, tuple[NamedBox, ...]]:
    """By row of the data set, the `boxes` of a Suspect."""
    found: dict[int, tuple[NamedBox, ...]] = {}
    boxes = read_boxes(dataset, dataset.classes)
    for row, column, left, top, right, bottom, width, height, _ in [] if boxes is None else boxes.tolist():
        named = (dataset.classes[column], 100 * left / width, 100 * top / height, 100 * (right - left) / width,
                 100 * (bottom - top) / height)
        found[row] = (*found.get(row, ()), named)
    return found


def out_of_fold(dataset: Dataset, features: Floats, folds: int, seed: int, group: str = AUTO) -> Floats:
    """Probabilities, float [N, classes], of each image by a classifier that has not seen it; arguments as above.

    Multi-label: as if each class were on half of the images, so that rare labels are not suspicious for being rare.
    """
    from sklearn.linear_model import LogisticRegression

    scaled = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12) * SCALE
    model = LogisticRegression(C=PENALTY, max_iter=1000, class_weight=None if dataset.single_label else "balanced")
    probabilities = np.zeros(dataset.labels.shape)
    division = dataset.stratified(dataset.grouping(group), file_digests(dataset.paths))
    for train, held_out in replace(division, single_label=False).folds(folds, seed):  # rare classes are not refused
        if dataset.single_label:
            model.fit(scaled[train], dataset.labels[train].argmax(axis=1))
            probabilities[held_out[:, None], model.classes_] = model.predict_proba(scaled[held_out])
            continue
        for column in range(len(dataset.classes)):
            rows = train[~dataset.ignored[train, column]]
            targets = dataset.labels[rows, column]
            constant = len(np.unique(targets)) < 2
            probabilities[held_out, column] = targets[0] if constant else (
                model.fit(scaled[rows], targets).predict_proba(scaled[held_out])[:, 1])
    return probabilities


def quality(dataset: Dataset, probabilities: Floats) -> Floats:
    """cleanlab's score of the labels of each image, 0 to 1, float [N]; low: probably wrong."""
    from cleanlab import rank
    from cleanlab.multilabel_classification.rank import get_label_quality_scores

    scores: Floats
    if dataset.single_label:
        scores = rank.get_label_quality_scores(dataset.labels.argmax(axis=1), probabilities)
    else:
        judged = np.where(dataset.ignored, 0, probabilities)  # an ignored label agrees with everything
        scores = get_label_quality_scores([np.flatnonzero(row).tolist() for row in dataset.labels], judged,
                                          aggregator_kwargs={"method": "softmin", "temperature": TEMPERATURE})
    return scores
