"""Average precision: hand-worked cases, and scikit-learn as the second opinion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.evaluation.average_precision import average_precisions, weighted_average_precisions


def truth(*values: int) -> np.ndarray:
    return np.array(values, bool)


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    return float(weighted_average_precisions(truth, scores, np.ones((len(truth), 1), np.int32))[0, 0])


def average_precision_11pt(truth: np.ndarray, scores: np.ndarray) -> float:
    return float(weighted_average_precisions(truth, scores, np.ones((len(truth), 1), np.int32))[1, 0])


def dataset(labels: np.ndarray, ignored: np.ndarray) -> Dataset:
    names = tuple(f"class{column}" for column in range(labels.shape[1]))
    paths = tuple(Path(f"{row}.jpg") for row in range(len(labels)))
    return Dataset("test", names, paths, labels.astype(np.float32), ignored, DifficultPolicy.IGNORE)


def test_a_perfect_ranking_has_average_precision_one():
    scores = np.array([0.9, 0.8, 0.2, 0.1])
    assert average_precision(truth(1, 1, 0, 0), scores) == 1.0
    assert average_precision_11pt(truth(1, 1, 0, 0), scores) == 1.0


def test_a_ranking_worked_by_hand():
    # ranks 1 and 3 are positive: precision 1 at recall 1/2, 2/3 at recall 1
    labels, scores = truth(1, 0, 1, 0), np.array([0.9, 0.8, 0.7, 0.6])
    assert average_precision(labels, scores) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    # recalls 0 … 0.5 (six of the eleven) see precision 1, the other five 2/3
    assert average_precision_11pt(labels, scores) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_precision_is_made_monotone_before_the_area_is_taken():
    # ranks 2 and 3 positive: raw precisions 1/2 and 2/3; at recall 1/2 the better one beyond it counts
    labels, scores = truth(0, 1, 1), np.array([3.0, 2.0, 1.0])
    assert average_precision(labels, scores) == pytest.approx(2 / 3)
    assert average_precision_score(labels, scores) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_pictures_with_equal_scores_enter_together_whatever_their_order():
    scores = np.array([0.5, 0.5, 0.5, 0.5])
    for labels in (truth(1, 0, 0, 0), truth(0, 0, 0, 1)):
        assert average_precision(labels, scores) == pytest.approx(1 / 4)
        assert average_precision_11pt(labels, scores) == pytest.approx(1 / 4)


def test_a_recall_of_three_tenths_counts_as_reached_in_spite_of_rounding():
    labels = np.zeros(100, bool)
    labels[[0, 1, 2]] = True  # 3 of 10 found at once
    labels[-7:] = True
    scores = -np.arange(100.0)
    # recalls 0 … 0.3 see precision 1; the others at best 10/100
    assert average_precision_11pt(labels, scores) == pytest.approx((4 * 1 + 7 * 0.1) / 11)


def test_a_class_without_positives_has_no_average_precision_and_stays_out_of_the_mean():
    labels = np.array([[1, 0], [0, 0]])
    result = average_precisions(dataset(labels, np.zeros((2, 2), bool)), np.array([[0.9, 0.1], [0.1, 0.9]]))
    assert np.isnan(result.classes[1].ap)
    assert result.map == 1.0
    assert np.isnan(result.to_dict()["classes"]["class1"]["ap"])


def test_ignored_entries_count_neither_way():
    labels, ignored = np.array([[1], [0], [0]]), np.array([[False], [True], [False]])
    scores = np.array([[0.5], [0.9], [0.1]])  # the ignored one is ranked first
    result = average_precisions(dataset(labels, ignored), scores)
    assert result.classes[0].ap == 1.0
    assert (result.classes[0].positives, result.classes[0].ignored) == (1, 1)
    assert average_precisions(dataset(labels, np.zeros_like(ignored)), scores).classes[0].ap == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_the_area_agrees_with_scikit_learns_curve(seed: int):
    random = np.random.default_rng(seed)
    labels = random.random(300) < 0.2
    scores = np.round(labels * 0.3 + random.random(300), 2)  # rounded: many ties
    precision, recall, _ = precision_recall_curve(labels, scores)
    monotone = np.maximum.accumulate(precision)
    assert average_precision(labels, scores) == pytest.approx(-np.sum(np.diff(recall) * monotone[:-1]), abs=1e-12)
    # scikit-learn's own summary leaves the curve as it zigzags: never above, and close
    step = average_precision_score(labels, scores)
    assert step <= average_precision(labels, scores) <= step + 0.03


def test_the_mean_is_over_the_classes_asked_for():
    labels = np.array([[1, 0], [0, 1]])
    scores = np.array([[0.9, 0.9], [0.1, 0.1]])
    data = dataset(labels, np.zeros((2, 2), bool))
    assert average_precisions(data, scores).map == 0.75
    assert [result.name for result in average_precisions(data, scores, ["class1"]).classes] == ["class1"]
    assert average_precisions(data, scores, ["class1"]).map == 0.5
