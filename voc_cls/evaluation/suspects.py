"""Images that are probably labelled wrongly: what a classifier trained on the other images says about each (out of
fold), ranked by cleanlab (Northcutt et al. 2021).

An image's score is low where the classifier gives one of its labels, or the absence of one, a low probability. The
classifier is a logistic regression on the features of a network, in k folds; groups of images are in one fold.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voc_cls.data.dataset import Dataset
from voc_cls.data.groups import AUTO
from voc_cls.evaluation.predictions import SEPARATOR, Bools, Floats, data_uri, thumbnail
from voc_cls.files import file_digests, write_aside, write_text
from voc_cls.version import __version__

if TYPE_CHECKING:
    from rich.table import Table

PENALTY = 1.0
"""Inverse strength of the L2 penalty, scikit-learn's C, on features of length SCALE."""
SCALE = 10.0
"""Length given to every feature vector, as the gap head has it: docs/decisions.md has the measurement."""


@dataclass(frozen=True)
class Change:
    """A label of an image that is probably wrong: the class, whether it is given, and its probability, 0-1."""

    label: str
    given: bool
    probability: float

    def __str__(self) -> str:
        return f"{'−' if self.given else '+'}{self.label} {100 * self.probability:.0f} %"


@dataclass(frozen=True)
class Suspect:
    """An image, how well its labels fit (0: wrong, 1: right), and what they are and probably should be."""

    file: Path
    score: float
    given: tuple[str, ...]
    suggested: tuple[str, ...]
    changes: tuple[Change, ...]
    """From given to suggested, the surest first; none where the classifier agrees with every label."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"file": str(self.file), "score": round(self.score, 6), "given": list(self.given),
                "suggested": list(self.suggested)}


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
        """JSON-ready."""
        return {"split": self.name, "pictures": len(self.images), "doubted": self.doubted, "notes": list(self.notes),
                "suspects": [suspect.to_dict() for suspect in self.images]}

    def table(self, most: int) -> Table:
        """For a terminal: the first `most` images."""
        from rich.table import Column, Table
        from rich.text import Text

        caption = f"{self.doubted:,} of {len(self.images):,} pictures have a label that the other pictures contradict"
        table = Table(Column("", justify="right"), Column("picture", overflow="fold"), Column("score", justify="right"),
                      Column("given", overflow="fold"), Column("probably", overflow="fold"),
                      title=f"Label errors? {self.name}", caption="\n".join([caption, *self.notes]))
        for rank, suspect in enumerate(self.images[:most], 1):
            given, changes = ", ".join(suspect.given) or "none", ", ".join(map(str, suspect.changes)) or "as given"
            table.add_row(str(rank), Text(suspect.file.name), f"{suspect.score:.3f}", Text(given), Text(changes))
        return table

    def write_csv(self, path: Path) -> None:
        """Writes all images, whole or not at all: rank, file, score, and the classes with "|" between them."""
        def write(aside: Path) -> None:
            with aside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
                rows = csv.writer(file)
                rows.writerow(["rank", "file", "score", "given", "suggested"])
                for rank, suspect in enumerate(self.images, 1):
                    rows.writerow([rank, suspect.file, f"{suspect.score:.6f}", SEPARATOR.join(suspect.given),
                                   SEPARATOR.join(suspect.suggested)])

        write_aside(path, write)

    def write_html(self, path: Path, most: int, run: str) -> int:
        """Writes a page that loads no other file with the first `most` images; returns their number."""
        from jinja2 import Environment, PackageLoader, StrictUndefined

        shown = [(suspect, data_uri(thumbnail(suspect.file))) for suspect in self.images[:most]]
        environment = Environment(loader=PackageLoader("voc_cls.evaluation.report"), autoescape=True,
                                  undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        environment.filters["number"] = "{:,}".format
        write_text(path, environment.get_template("suspects.html").render(
            suspects=self, shown=shown, run=run, version=__version__))
        return len(shown)


def find_suspects(dataset: Dataset, features: Floats, folds: int = 5, seed: int = 0, group: str = AUTO) -> Suspects:
    """Ranks the images of a data set by how little their labels fit what the others say.

    Args:
        dataset: images and labels; an ignored label is not judged.
        features: float [N, D] of a network, one row an image.
        folds: number of parts; each is judged by a classifier of the others.
        seed: of the division.
        group: as for `Dataset.split`: images that must not judge each other.

    Raises:
        UsageError: there are fewer images or groups than folds.
    """
    judged = dataset.labels.sum(axis=0) >= folds
    rows = np.arange(len(dataset))
    notes = []
    if not judged.all():
        rare = [name for name, enough in zip(dataset.classes, judged, strict=True) if not enough]
        notes.append(f"classes with fewer than {folds} pictures are not judged: {', '.join(rare)}")
    if dataset.single_label:
        rows = np.flatnonzero(dataset.labels[:, judged].any(axis=1))
    chosen = dataset.subset(rows, dataset.name).only(np.flatnonzero(judged).tolist())
    probabilities = out_of_fold(chosen, features[rows], folds, seed, group)
    scores = quality(chosen, probabilities)
    order = np.argsort(scores, kind="stable")
    images = []
    for row in order.tolist():
        changes = _changes(chosen, row, probabilities[row])
        given = tuple(name for name, label in zip(dataset.classes, dataset.labels[rows[row]], strict=True) if label)
        removed = {change.label for change in changes if change.given}
        added = {change.label for change in changes if not change.given}
        suggested = tuple(name for name in dataset.classes if name in added or (name in given and name not in removed))
        images.append(Suspect(chosen.paths[row], float(scores[row]), given, suggested, changes))
    return Suspects(dataset.name, tuple(images), tuple(notes))


def out_of_fold(dataset: Dataset, features: Floats, folds: int, seed: int, group: str = AUTO) -> Floats:
    """Probabilities, float [N, classes], of each image by a classifier that has not seen it; arguments as above."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scaled = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12) * SCALE
    probabilities = np.zeros(dataset.labels.shape)
    division = dataset.stratified(dataset.grouping(group), file_digests(dataset.paths))
    for train, held_out in replace(division, single_label=False).folds(folds, seed):  # rare classes are not refused
        for columns, rows, targets in _problems(dataset, train):
            if len(np.unique(targets)) < 2:
                probabilities[held_out[:, None], columns] = targets[0]
                continue
            model = LogisticRegression(C=PENALTY, max_iter=1000)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # almost converged ranks as well
                model.fit(scaled[rows], targets)
            answers = model.predict_proba(scaled[held_out])
            if dataset.single_label:
                probabilities[held_out[:, None], model.classes_] = answers
            else:
                probabilities[held_out, columns[0]] = answers[:, 1]
    return probabilities


def _problems(dataset: Dataset, train: Any) -> list[tuple[list[int], Any, Any]]:
    """(columns, rows, targets) of what one classifier learns: all classes at once, or each on its own."""
    if dataset.single_label:
        return [(list(range(len(dataset.classes))), train, dataset.labels[train].argmax(axis=1))]
    known = [train[~dataset.ignored[train, column]] for column in range(len(dataset.classes))]
    return [([column], rows, dataset.labels[rows, column].astype(int)) for column, rows in enumerate(known)]


def quality(dataset: Dataset, probabilities: Floats) -> Floats:
    """cleanlab's score of the labels of each image, 0 to 1, float [N]; low: probably wrong."""
    from cleanlab import rank
    from cleanlab.multilabel_classification.rank import get_label_quality_scores

    scores: Floats
    if dataset.single_label:
        scores = rank.get_label_quality_scores(dataset.labels.argmax(axis=1), probabilities)
    else:
        judged = np.where(dataset.ignored, 0, probabilities)  # an ignored label agrees with everything
        scores = get_label_quality_scores([np.flatnonzero(row).tolist() for row in dataset.labels], judged)
    return scores


def _changes(dataset: Dataset, row: int, probabilities: Floats) -> tuple[Change, ...]:
    """The labels of an image that the probabilities [classes] contradict, the surest first."""
    given: Bools = dataset.labels[row] > 0
    doubted: Bools = ((probabilities > 0.5) != given) & ~dataset.ignored[row]
    if dataset.single_label:
        likely = int(probabilities.argmax())
        doubted = np.zeros(len(given), bool) if given[likely] else given | (np.arange(len(given)) == likely)
    columns: Sequence[int] = np.flatnonzero(doubted).tolist()
    certainty = np.where(given, 1 - probabilities, probabilities)
    return tuple(Change(dataset.classes[column], bool(given[column]), float(probabilities[column]))
                 for column in sorted(columns, key=lambda column: -certainty[column]))
