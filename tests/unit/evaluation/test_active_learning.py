"""Which images are chosen to be labelled next."""

from __future__ import annotations

import numpy as np
import pytest

from voc_cls.data.dataset import Task
from voc_cls.evaluation.active_learning import choose, expected_errors


def test_errors_are_to_the_most_probable_answers():
    probabilities = np.array([[0.9, 0.4, 0.5], [0.2, 0.7, 0.1]])
    np.testing.assert_allclose(expected_errors(probabilities, Task.MULTI_LABEL), [[-0.1, 0.4, 0.5], [0.2, -0.3, 0.1]])
    np.testing.assert_allclose(expected_errors(probabilities, Task.SINGLE_LABEL)[1], [0.2, -0.3, 0.1])


def test_uncertain_images_of_all_kinds_are_chosen_and_of_the_certain_ones_which_have_no_gradient_one():
    random = np.random.default_rng(0)
    kinds = np.arange(300) % 6
    features = np.eye(8)[kinds] * 5 + 0.01 * random.standard_normal((300, 8))
    probabilities = np.where(np.arange(300)[:, None] < 60, 0.5, 0.001) * np.ones((1, 3))
    errors = expected_errors(probabilities, Task.MULTI_LABEL)
    for seed in range(5):
        rows = np.array(choose(features, errors, 7, seed))
        assert sorted(kinds[rows[rows < 60]]) == [0, 1, 2, 3, 4, 5]
        assert rows.tolist() == choose(features, errors, 7, seed)
    assert rows.tolist() != choose(features, errors, 7, 5)


def test_images_are_drawn_by_the_distances_of_their_gradients():
    random = np.random.default_rng(1)
    features, errors = random.standard_normal((40, 5)), random.standard_normal((40, 3))
    gradients = (errors[:, :, None] * features[:, None, :]).reshape(40, 15)
    draw, rows = np.random.default_rng(7), [int(np.square(gradients).sum(axis=1).argmax())]
    while len(rows) < 12:
        distances = np.min([np.square(gradients - gradients[row]).sum(axis=1) for row in rows], axis=0)
        rows.append(int(draw.choice(40, p=distances / distances.sum())))
    assert choose(features, errors, 12, 7) == rows


@pytest.mark.parametrize("count", [5, 9])
def test_all_are_chosen_once_where_there_are_no_more_alike_or_not(count: int):
    rows = choose(np.ones((5, 4)), np.full((5, 2), 0.3), count, 0)
    assert sorted(rows) == [0, 1, 2, 3, 4]
