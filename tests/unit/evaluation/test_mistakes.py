"""The pictures that a person should look at first."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.evaluation.report.multilabel import kinds_of_examples, worst_mistakes

LABELS = np.array([[1], [0], [0], [1], [0], [1], [0]], np.float32)
PROBABILITIES = np.array([[0.9], [0.8], [0.95], [0.1], [0.2], [0.3], [0.99]])
DATASET = Dataset("test", ("cat",), tuple(Path(f"{row}.jpg") for row in range(7)), LABELS,
                  np.array([[False]] * 6 + [[True]]), DifficultPolicy.IGNORE)


def test_the_most_confident_wrong_and_the_least_probable_missed_come_first():
    mistakes = worst_mistakes(DATASET, PROBABILITIES, np.array([0.5]), most=5)[0]
    assert [example.row for example in mistakes.wrong] == [2, 1]
    assert [example.row for example in mistakes.missed] == [3, 5]
    assert [example.probability for example in mistakes.missed] == [0.1, 0.3]


def test_an_ignored_picture_is_no_mistake():
    mistakes = worst_mistakes(DATASET, PROBABILITIES, np.array([0.5]), most=5)[0]
    assert 6 not in [example.row for example in mistakes.wrong]


def test_all_are_counted_although_few_are_shown():
    mistakes = worst_mistakes(DATASET, PROBABILITIES, np.array([0.15]), most=1)[0]
    assert (len(mistakes.wrong), mistakes.all_wrong) == (1, 3)
    assert (len(mistakes.missed), mistakes.all_missed) == (1, 1)


def test_the_threshold_itself_counts_as_seen():
    assert worst_mistakes(DATASET, PROBABILITIES, np.array([0.8]), most=5)[0].all_wrong == 2


def test_the_surest_hit_is_the_right_one_with_the_highest_probability():
    hits = kinds_of_examples(DATASET, PROBABILITIES, np.array([0.5]), [])["right"]
    assert [(hit.row, hit.probability) for hit in hits] == [(0, 0.9)]
    assert kinds_of_examples(DATASET, PROBABILITIES, np.array([0.95]), [])["right"] == []
