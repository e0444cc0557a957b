"""CP, CR, CF1, OP, OR, OF1: counted by hand, and scikit-learn as the second opinion."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from voc_cls.data.dataset import Dataset, DifficultPolicy, Task
from voc_cls.evaluation.decisions import multilabel_scores
from voc_cls.evaluation.predictions import probabilities_of, top_k


def dataset(labels: np.ndarray, ignored: np.ndarray | None = None) -> Dataset:
    names = tuple(f"class{column}" for column in range(labels.shape[1]))
    paths = tuple(Path(f"{row}.jpg") for row in range(len(labels)))
    none = np.zeros(labels.shape, bool) if ignored is None else ignored
    return Dataset("test", names, paths, labels.astype(np.float32), none, DifficultPolicy.IGNORE)


LABELS = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
PROBABILITIES = np.array([[0.9, 0.8], [0.2, 0.7], [0.6, 0.1], [0.1, 0.2]])
HALF = np.full(2, 0.5)


def test_the_six_numbers_of_four_pictures_counted_by_hand():
    overall = multilabel_scores(dataset(LABELS), PROBABILITIES, np.array([0.15, 0.5])).overall
    # class0: predicted 0, 1 and 2, true 0 and 1. class1: predicted 0 and 1, true 1 and 2
    assert overall.cp == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert overall.cr == pytest.approx((1 + 1 / 2) / 2)
    assert overall.cf1 == pytest.approx(2 * overall.cp * overall.cr / (overall.cp + overall.cr))
    assert overall.op == pytest.approx(3 / 5)
    assert overall.or_ == pytest.approx(3 / 4)
    assert overall.of1 == pytest.approx(2 * 3 / (5 + 4))


def test_cf1_is_the_harmonic_mean_of_the_means_and_not_the_mean_of_the_f1s():
    labels = np.array([[1, 1], [1, 0], [1, 0]])
    probabilities = np.array([[0.9, 0.9], [0.1, 0.9], [0.1, 0.9]])
    scores = multilabel_scores(dataset(labels), probabilities, HALF)  # precision 1, 1/3; recall 1/3, 1
    assert [result.f1 for result in scores.classes] == pytest.approx([1 / 2, 1 / 2])
    assert scores.overall.cf1 == pytest.approx(2 / 3)


def test_a_probability_equal_to_the_threshold_is_a_decision_for_the_label():
    assert multilabel_scores(dataset(np.array([[1]])), np.array([[0.5]]), np.array([0.5])).classes[0].recall == 1


def test_ignored_entries_count_neither_as_wrong_nor_as_missed():
    ignored = np.array([[False, True], [True, False], [True, False], [False, False]])
    scores = multilabel_scores(dataset(np.where(ignored, 0, LABELS), ignored), PROBABILITIES, HALF)
    # class0 is left with pictures 0 and 3, class1 with 1 (found), 2 (missed) and 3
    assert [(result.precision, result.recall) for result in scores.classes] == [(1, 1), (1, 1 / 2)]
    assert (scores.overall.op, scores.overall.or_) == (1, pytest.approx(2 / 3))


def test_a_class_without_positives_stays_out_of_the_class_means_but_its_mistakes_are_pooled():
    labels = np.array([[1, 0], [1, 0]])
    scores = multilabel_scores(dataset(labels), np.array([[0.9, 0.9], [0.9, 0.1]]), HALF)
    assert math.isnan(scores.classes[1].recall)
    assert math.isnan(scores.classes[1].f1)
    assert (scores.overall.cp, scores.overall.cr) == (1, 1)
    assert scores.overall.op == pytest.approx(2 / 3)


def test_nothing_predicted_is_precision_zero_and_nothing_to_find_is_undefined():
    silent = multilabel_scores(dataset(LABELS), np.zeros((4, 2)), HALF).overall
    assert silent.to_dict() == dict.fromkeys(("cp", "cr", "cf1", "op", "or", "of1"), 0.0)
    empty = multilabel_scores(dataset(np.zeros((4, 2))), PROBABILITIES, HALF).overall
    assert np.isnan(list(empty.to_dict().values())).all()


def test_top_k_gives_every_picture_its_most_probable_labels():
    probabilities = np.array([[0.1, 0.4, 0.3, 0.2, 0.0], [0.5, 0.5, 0.5, 0.5, 0.9]])
    assert top_k(probabilities, 3).astype(int).tolist() == [[0, 1, 1, 1, 0], [1, 1, 0, 0, 1]]
    labels = np.array([[0, 1, 0, 0, 0], [0, 0, 0, 1, 1]])
    overall = multilabel_scores(dataset(labels), probabilities, np.full(5, 0.5)).top_k
    assert overall is not None
    assert (overall.op, overall.or_) == (pytest.approx(2 / 6), pytest.approx(2 / 3))
    assert multilabel_scores(dataset(LABELS), PROBABILITIES, HALF).top_k is None  # two classes only


@pytest.mark.parametrize("seed", range(3))
def test_scikit_learn_counts_the_same(seed: int):
    random = np.random.default_rng(seed)
    labels = random.random((200, 5)) < 0.3
    ignored = (random.random((200, 5)) < 0.1) & ~labels
    probabilities, thresholds = np.round(random.random((200, 5)), 1), random.random(5)
    scores = multilabel_scores(dataset(labels, ignored), probabilities, thresholds)
    decided = probabilities >= thresholds
    rows = np.array([precision_recall_fscore_support(labels[kept, column], decided[kept, column], average="binary",
                                                     zero_division=0)[:3]
                     for column, kept in enumerate(~ignored.T)])
    assert np.array([(result.precision, result.recall, result.f1) for result in scores.classes]) == pytest.approx(rows)
    assert (scores.overall.cp, scores.overall.cr) == pytest.approx(tuple(rows.mean(axis=0)[:2]))
    pooled = precision_recall_fscore_support(labels[~ignored], decided[~ignored], average="binary")[:3]
    assert (scores.overall.op, scores.overall.or_, scores.overall.of1) == pytest.approx(pooled)


def test_probabilities_of_any_logit_are_finite():
    logits = np.array([-1000, -1, 0, 1, 1000], np.float32)
    probabilities = probabilities_of(logits, Task.MULTI_LABEL)
    assert probabilities == pytest.approx([0, 1 / (1 + math.e), 0.5, math.e / (1 + math.e), 1])
    assert probabilities.dtype == np.float32
