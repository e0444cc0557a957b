"""Which pictures to look at: the worst mistakes of every class, and what was right with the most confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.probabilities import Floats
from voc_cls.evaluation.singlelabel import Confused


@dataclass(frozen=True)
class Example:
    """A picture and a class of it: `row` and `column` of the labels, and the class's probability, 0-1."""

    row: int
    column: int
    probability: float


@dataclass(frozen=True)
class ClassMistakes:
    """One class at its threshold: what was taken for it, most probable first; what of it was missed, least first."""

    column: int
    wrong: tuple[Example, ...]
    missed: tuple[Example, ...]
    wrong_in_all: int
    missed_in_all: int

    @property
    def in_all(self) -> int:
        """Mistakes of both kinds, shown or not."""
        return self.wrong_in_all + self.missed_in_all


def class_mistakes(dataset: Dataset, probabilities: Floats, thresholds: Floats, column: int, most: int
                   ) -> ClassMistakes:
    """Up to `most` of either kind for class `column`; entries that are ignored are no mistakes."""
    scores = probabilities[:, column]
    counted, true = ~dataset.ignored[:, column], dataset.labels[:, column] == 1
    seen = scores >= thresholds[column]
    wrong, missed = np.flatnonzero(counted & ~true & seen), np.flatnonzero(counted & true & ~seen)
    wrong, missed = wrong[np.argsort(-scores[wrong], kind="stable")], missed[np.argsort(scores[missed], kind="stable")]
    return ClassMistakes(column, _examples(wrong[:most], column, scores), _examples(missed[:most], column, scores),
                         len(wrong), len(missed))


def surest_hit(dataset: Dataset, probabilities: Floats, thresholds: Floats, column: int) -> Example | None:
    """The picture of class `column` that was recognised with the highest probability; None where none was."""
    scores = probabilities[:, column]
    hits = np.flatnonzero((dataset.labels[:, column] == 1) & (scores >= thresholds[column]))
    return _examples(hits[np.argsort(-scores[hits], kind="stable")][:1], column, scores)[0] if len(hits) else None


def worst_of_pair(dataset: Dataset, probabilities: Floats, pair: Confused, most: int) -> tuple[Example, ...]:
    """Up to `most` pictures of one class that were taken for another, with the probability of that, surest first."""
    scores = probabilities[:, pair.predicted]
    rows = np.flatnonzero((dataset.labels[:, pair.truth] == 1) & (probabilities.argmax(axis=1) == pair.predicted))
    return _examples(rows[np.argsort(-scores[rows], kind="stable")][:most], pair.predicted, scores)


def _examples(rows: npt.NDArray[np.intp], column: int, scores: Floats) -> tuple[Example, ...]:
    return tuple(Example(int(row), column, float(scores[row])) for row in rows)
