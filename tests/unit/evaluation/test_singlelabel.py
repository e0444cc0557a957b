"""Accuracy, rates by class and confusions: hand-worked cases, and scikit-learn's numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss, top_k_accuracy_score

from voc_cls.data.dataset import Dataset, Task
from voc_cls.evaluation.decisions import singlelabel_scores

NAMES = ("cat", "dog", "unicorn", "yak")
TRUTH = [0, 0, 0, 1, 1, 3]
PREDICTED = [0, 1, 1, 1, 0, 2]


def made() -> tuple[Dataset, np.ndarray]:
    """Three cats, two dogs, a yak and no unicorn."""
    labels = np.eye(4, dtype=np.float32)[TRUTH]
    logits = 2 * np.eye(4, dtype=np.float32)[PREDICTED]
    return Dataset("made", NAMES, tuple(Path(f"{row}.jpg") for row in range(6)), labels, np.zeros((6, 4), bool),
                   task=Task.SINGLE_LABEL), logits


def test_counts_and_rates_worked_by_hand():
    scores = singlelabel_scores(*made())
    assert scores.accuracy == 2 / 6
    assert scores.confusion.counts.tolist() == [[1, 2, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    cat, dog, unicorn, yak = scores.classes
    assert (cat.precision, cat.recall, cat.f1, cat.predicted, cat.positives) == (1 / 2, 1 / 3, 2 / 5, 2, 3)
    assert (dog.precision, dog.recall, dog.f1) == (1 / 3, 1 / 2, 2 / 5)
    assert (unicorn.predicted, unicorn.positives) == (1, 0)
    assert math.isnan(unicorn.recall)
    assert (yak.precision, yak.recall, yak.f1) == (0, 0, 0)
    assert (scores.macro.recall, scores.macro.f1) == pytest.approx((5 / 18, 4 / 15))  # without the unicorn


def test_the_most_frequent_confusion_comes_first_with_its_share_of_the_class():
    pairs = singlelabel_scores(*made()).confusion.pairs()
    assert [(pair.truth, pair.predicted, pair.count) for pair in pairs] == [(0, 1, 2), (1, 0, 1), (3, 2, 1)]
    assert [pair.share for pair in pairs] == [2 / 3, 1 / 2, 1]
    assert len(singlelabel_scores(*made()).confusion.pairs(most=1)) == 1


def test_nothing_is_confused_where_all_is_right():
    dataset, _ = made()
    assert singlelabel_scores(dataset, dataset.labels).confusion.pairs() == ()


def test_top_k_and_log_loss_are_scikit_learns(singlelabel: Callable[..., Any]):
    dataset, logits = singlelabel(classes=8)
    scores, truth = singlelabel_scores(dataset, logits), dataset.labels.argmax(axis=1)
    assert scores.top_k is not None
    assert scores.top_k.k == 5
    assert scores.top_k.accuracy == pytest.approx(top_k_accuracy_score(truth, logits, k=5))
    assert scores.log_loss == pytest.approx(log_loss(truth, softmax(logits.astype(float), axis=1)))


@pytest.mark.parametrize(("classes", "k"), [(2, None), (3, 2), (5, 4), (6, 5), (9, 5)])
def test_few_classes_have_fewer_guesses_and_two_have_none(singlelabel: Callable[..., Any], classes: int, k: int | None):
    top_k = singlelabel_scores(*singlelabel(classes=classes)).top_k
    assert (top_k and top_k.k) == k


def test_some_classes_have_rows_and_means_of_their_own_and_accuracy_stays_that_of_all():
    whole, some = singlelabel_scores(*made()), singlelabel_scores(*made(), classes=["dog", "yak"])
    assert [rates.name for rates in some.classes] == ["dog", "yak"]
    assert some.macro.f1 == pytest.approx(1 / 5)
    assert (some.accuracy, some.log_loss) == (whole.accuracy, whole.log_loss)
    assert some.confusion.counts.tolist() == whole.confusion.counts.tolist()
