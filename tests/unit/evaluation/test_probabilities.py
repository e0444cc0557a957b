"""Logits become probabilities by the task alone, whatever their size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax as reference

from voc_cls.data.dataset import Task
from voc_cls.evaluation.predictions import log_softmax, probabilities_of, softmax

LOGITS = np.random.default_rng(0).normal(0, 5, (20, 6)).astype(np.float32)


def test_of_one_class_a_picture_they_sum_to_one_and_else_each_stands_alone():
    single, multi = (probabilities_of(LOGITS, task) for task in (Task.SINGLE_LABEL, Task.MULTI_LABEL))
    assert single == pytest.approx(reference(LOGITS, axis=1), abs=1e-6)
    assert single.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert multi == pytest.approx(1 / (1 + np.exp(-LOGITS)), abs=1e-6)


def test_logits_of_any_size_give_numbers():
    huge = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4]], np.float32)
    assert softmax(huge) == pytest.approx(np.array([[1, 0, 0], [1 / 3] * 3]))
    assert log_softmax(huge)[0].tolist() == [0, -2e4, -1e4]
    assert softmax(huge).dtype == np.float32
