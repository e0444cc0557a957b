"""The loss against the lecture's formula and against hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest

from voc_cls.data.dataset import IGNORED
from voc_cls.training.losses import SigmoidCrossEntropy


def loss(targets, logits) -> float:
    return float(SigmoidCrossEntropy()(np.asarray(targets, np.float32), np.asarray(logits, np.float32)))


def test_it_is_the_lectures_cross_entropy():
    targets, logits = np.array([[1, 0], [0, 1]]), np.array([[2.0, -1.0], [0.5, -3.0]])
    sigmoid = 1 / (1 + np.exp(-logits))
    expected = -(targets * np.log(sigmoid) + (1 - targets) * np.log(1 - sigmoid)).mean()
    assert loss(targets, logits) == pytest.approx(expected, rel=1e-6)


def test_ignored_entries_change_nothing():
    assert loss([[1, IGNORED]], [[0.3, 100.0]]) == pytest.approx(loss([[1]], [[0.3]]), rel=1e-6)


def test_a_batch_in_which_nothing_counts_has_no_loss():
    assert loss([[IGNORED, IGNORED]], [[5.0, -5.0]]) == 0.0


def test_it_stays_exact_where_the_sigmoid_has_no_more_digits():
    assert loss([[0]], [[80.0]]) == pytest.approx(80.0)
    assert loss([[1]], [[-80.0]]) == pytest.approx(80.0)
