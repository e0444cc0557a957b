"""The losses against the formulas of their papers, written out in NumPy, and against hand-worked cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from voc_cls.data.dataset import IGNORED, Dataset, DifficultPolicy, Task
from voc_cls.errors import UsageError
from voc_cls.training.config import LossConfig
from voc_cls.training.losses import MultiLabelLoss, build_loss

TARGETS = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
LOGITS = np.array([[2.0, -1.0], [0.5, -3.0], [-0.2, 4.0]], np.float32)
SIGMOID = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
ENTRIES = -(TARGETS * np.log(SIGMOID) + (1 - TARGETS) * np.log(1 - SIGMOID))


def dataset(labels: object) -> Dataset:
    values = np.asarray(labels, np.float32)
    paths = tuple(Path(f"{row}.jpg") for row in range(len(values)))
    return Dataset("made", tuple("abcdefg"[:values.shape[1]]), paths, np.maximum(values, 0), values == IGNORED,
                   DifficultPolicy.IGNORE)


def loss_of(config: LossConfig, train: Dataset) -> Any:
    return build_loss(config.for_task(train.task), train)


def loss(targets: object, logits: object, **config: object) -> float:
    built = loss_of(LossConfig(**config), dataset(TARGETS))  # type: ignore[arg-type]
    return float(built(np.asarray(targets, np.float32), np.asarray(logits, np.float32)))


def test_the_default_is_the_lectures_cross_entropy():
    assert loss(TARGETS, LOGITS) == pytest.approx(ENTRIES.mean(), rel=1e-6)


def test_ignored_entries_add_nothing():
    assert loss([[1, IGNORED]], [[0.3, 100.0]]) == pytest.approx(loss([[1]], [[0.3]]) / 2, rel=1e-6)
    assert loss([[IGNORED, IGNORED]], [[5.0, -5.0]]) == 0.0


@pytest.mark.parametrize("config", [{}, {"loss": "focal"}, {"loss": "asymmetric"}, {"class_weights": "balanced"}])
def test_a_batch_in_two_parts_has_the_mean_of_their_losses(config: dict[str, object]):
    parts = [loss([row], [logits], **config) for row, logits in zip([[1, IGNORED], [0, 1]], LOGITS[:2], strict=True)]
    assert loss([[1, IGNORED], [0, 1]], LOGITS[:2], **config) == pytest.approx(np.mean(parts), rel=1e-6)


def test_it_stays_exact_where_the_sigmoid_has_no_more_digits():
    assert loss([[0]], [[80.0]]) == pytest.approx(80.0)
    assert loss([[1]], [[-80.0]]) == pytest.approx(80.0)


def test_focal_is_the_cross_entropy_times_what_is_missing_to_certainty():
    truth = TARGETS * SIGMOID + (1 - TARGETS) * (1 - SIGMOID)
    assert loss(TARGETS, LOGITS, loss="focal", focal_gamma=3.0) == pytest.approx(((1 - truth) ** 3 * ENTRIES).mean())
    assert loss(TARGETS, LOGITS, loss="focal", focal_gamma=0.0) == pytest.approx(ENTRIES.mean(), rel=1e-5)


def test_asymmetric_leaves_positives_alone_and_easy_negatives_out():
    shifted = np.maximum(SIGMOID - 0.05, 0)
    expected = -(TARGETS * np.log(SIGMOID) + (1 - TARGETS) * shifted ** 4 * np.log(1 - shifted))
    assert loss(TARGETS, LOGITS, loss="asymmetric") == pytest.approx(expected.mean(), rel=1e-5)
    assert loss([[0]], [[-4.0]], loss="asymmetric") == 0.0


def test_smoothing_moves_targets_in_from_both_ends():
    smooth = TARGETS * 0.8 + 0.1
    expected = -(smooth * np.log(SIGMOID) + (1 - smooth) * np.log(1 - SIGMOID))
    assert loss(TARGETS, LOGITS, label_smoothing=0.2) == pytest.approx(expected.mean(), rel=1e-6)


def test_balanced_positives_of_a_class_weigh_as_much_as_its_negatives():
    labels = [[1, 1, 0], [0, 1, 0], [0, 1, IGNORED], [0, 0, 0]]
    weights = loss_of(LossConfig(class_weights="balanced"), dataset(labels)).weights
    assert weights is not None
    np.testing.assert_allclose(weights, [[4 / 6, 4 / 2, 1], [4 / 2, 4 / 6, 1]], rtol=1e-6)  # the last has no positive


LOG_SOFTMAX = LOGITS - np.log(np.exp(LOGITS.astype(np.float64)).sum(axis=1, keepdims=True))
ONE_HOT = np.array([[1, 0], [0, 1], [0, 1]], np.float32)


def single(labels: object) -> Dataset:
    return replace(dataset(labels), task=Task.SINGLE_LABEL)


def softmax(targets: object, logits: object, train: object = ONE_HOT, **config: object) -> float:
    built = loss_of(LossConfig(**config), single(train))  # type: ignore[arg-type]
    return float(built(np.asarray(targets, np.float32), np.asarray(logits, np.float32)))


def test_a_single_label_data_set_takes_the_mean_softmax_cross_entropy_of_the_pictures():
    expected = -(ONE_HOT * LOG_SOFTMAX).sum(axis=1).mean()
    assert softmax(ONE_HOT, LOGITS) == softmax(ONE_HOT, LOGITS, loss="softmax") == pytest.approx(expected, rel=1e-6)
    assert softmax([[0, 1]], [[90.0, 0.0]]) == pytest.approx(90.0)


def test_targets_of_mixed_pictures_count_by_their_shares():
    mixed = [[0.3, 0.7]]
    assert softmax(mixed, LOGITS[:1]) == pytest.approx(-(0.3 * LOG_SOFTMAX[0, 0] + 0.7 * LOG_SOFTMAX[0, 1]), rel=1e-6)


def test_smoothing_spreads_certainty_evenly_over_the_classes():
    smooth = 0.9 * ONE_HOT + 0.1 / 2
    assert softmax(ONE_HOT, LOGITS, label_smoothing=0.1) == pytest.approx(-(smooth * LOG_SOFTMAX).sum(axis=1).mean())


def test_balanced_classes_weigh_alike_however_many_pictures_they_have():
    train = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]], np.float32)
    from sklearn.utils.class_weight import compute_class_weight

    wanted = compute_class_weight("balanced", classes=np.arange(2), y=train.argmax(axis=1))
    found = loss_of(LossConfig(class_weights="balanced"), single(train)).weights
    np.testing.assert_allclose(found, [*wanted, 1.0], rtol=1e-6)  # the third has no picture
    alike = softmax(train, np.zeros((4, 3)), train, class_weights="balanced")
    assert alike == pytest.approx(np.log(3), rel=1e-6)
    half = softmax([[0.5, 0.5, 0]], np.zeros((1, 3)), train, class_weights="balanced")
    assert half == pytest.approx(np.log(3) * (wanted[0] + wanted[1]) / 2, rel=1e-6)


@pytest.mark.parametrize("config", [{}, {"label_smoothing": 0.2}, {"class_weights": "balanced"}])
def test_a_single_label_batch_in_two_parts_has_the_mean_of_their_losses(config: dict[str, object]):
    parts = [softmax([row], [logits], **config) for row, logits in zip(ONE_HOT[:2], LOGITS[:2], strict=True)]
    assert softmax(ONE_HOT[:2], LOGITS[:2], **config) == pytest.approx(np.mean(parts), rel=1e-6)


@pytest.mark.parametrize(("name", "task"), [("sigmoid", Task.SINGLE_LABEL), ("focal", Task.SINGLE_LABEL),
                                            ("asymmetric", Task.SINGLE_LABEL), ("softmax", Task.MULTI_LABEL)])
def test_a_loss_for_the_other_task_is_refused_in_one_sentence(name: str, task: Task):
    with pytest.raises(UsageError, match=f"^`loss` {name}: not for a {task.value} data set, in which .* omit it for"):
        loss_of(LossConfig(loss=name), replace(dataset(ONE_HOT), task=task))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["sigmoid", "focal", "asymmetric"])
def test_gradients_are_numbers_at_both_ends(name: str):
    import tensorflow as tf

    logits = tf.constant([[100.0, -100.0, 100.0, -100.0, 0.0]])
    built: MultiLabelLoss = loss_of(LossConfig(loss=name), dataset([[1]]))  # type: ignore[arg-type]
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = built(keras.ops.convert_to_tensor([[1.0, 1.0, 0.0, 0.0, IGNORED]]), logits)
    gradient = tape.gradient(value, logits).numpy()
    assert np.isfinite(gradient).all()
    assert gradient[0, 1] < 0
    assert gradient[0, 4] == 0
