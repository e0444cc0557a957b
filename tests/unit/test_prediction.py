"""A prediction: which labels it has, and which of them count as seen."""

from __future__ import annotations

import numpy as np
import pytest

from voc_cls.prediction import Prediction, ScoredLabel

SURE, UNSURE = ScoredLabel("cat", 0.6), ScoredLabel("dog", 0.3)


@pytest.mark.parametrize(("activation", "threshold", "seen"), [
    ("sigmoid", None, (SURE,)), ("", None, (SURE,)), ("softmax", None, (SURE,)),
    ("sigmoid", 0.2, (SURE, UNSURE)), ("softmax", 0.2, (SURE, UNSURE)), ("softmax", 0.9, ())])
def test_what_is_seen_depends_on_what_the_probabilities_mean_unless_a_threshold_is_given(
        activation: str, threshold: float | None, seen: tuple[ScoredLabel, ...]) -> None:
    assert Prediction((SURE, UNSURE), "voc", activation=activation).seen(threshold) == seen


def test_of_a_model_of_one_class_a_picture_the_most_probable_label_is_seen_however_unsure() -> None:
    assert Prediction((UNSURE,), "voc", activation="softmax").seen() == (UNSURE,)
    assert Prediction((UNSURE,), "voc", activation="sigmoid").seen() == ()
    assert Prediction((), "voc", activation="softmax").seen() == ()
    assert [Prediction((), "voc", activation=kind).seen_rule(at) for kind, at in (
        ("softmax", None), ("softmax", 0.3), ("sigmoid", None))] == ["the most probable", "from 30% on", "from 50% on"]


def test_probabilities_of_a_network_become_labels_the_most_probable_first() -> None:
    probabilities = np.array([0.25, 0.75, 0.25, 0.5], np.float32)
    classes = ("cat", "dog", "cow", "hen")
    assert Prediction.from_probabilities(probabilities, classes, "voc07", "softmax", top_k=3) == Prediction(
        (ScoredLabel("dog", 0.75), ScoredLabel("hen", 0.5), ScoredLabel("cat", 0.25)), "voc07", activation="softmax")
    assert len(Prediction.from_probabilities(probabilities, classes, "voc07", "sigmoid").labels) == 4
