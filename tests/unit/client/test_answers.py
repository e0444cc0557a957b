"""Messages of the server become plain data; what is absent there is None here."""

from __future__ import annotations

import pytest

from voc_cls.client.answers import Portion, model_info
from voc_cls.client.pictures import Picture, Unreadable
from voc_cls.errors import ClientError
from voc_cls.predictions import Prediction, ScoredLabel
from voc_cls.v1 import classifier_pb2

A, GONE, C = Picture(0, "a.jpg", b"a"), Unreadable(1, "b.jpg is not there"), Picture(2, "c.jpg", b"c")
RESPONSE = classifier_pb2.ClassifyResponse(model="voc", version=2, classifications=[
    classifier_pb2.Classification(labels=[classifier_pb2.ScoredLabel(label="cat", probability=0.5)]),
    classifier_pb2.Classification(error=classifier_pb2.Error(code=3, message="pictures[1] is empty"))])


def test_errors_stand_at_their_pictures_under_the_names_that_the_caller_knows() -> None:
    portion = Portion([A, GONE, C], raise_errors=False)
    assert portion.sent == [A, C]
    assert portion.predictions(RESPONSE) == [
        Prediction((ScoredLabel("cat", 0.5),), "voc", 2), Prediction((), "", None, "b.jpg is not there"),
        Prediction((), "voc", 2, "c.jpg is empty")]


def test_or_the_first_is_raised_and_what_cannot_be_read_before_anything_is_sent() -> None:
    with pytest.raises(ClientError, match=r"^b\.jpg is not there$"):
        Portion([A, GONE, C], raise_errors=True)
    with pytest.raises(ClientError, match=r"^c\.jpg is empty$"):
        Portion([A, C], raise_errors=True).predictions(RESPONSE)


def test_an_answer_with_another_number_of_pictures_is_not_taken_for_right() -> None:
    with pytest.raises(ValueError, match="zip"):
        Portion([A], raise_errors=False).predictions(RESPONSE)


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


def test_an_answer_says_what_its_probabilities_mean() -> None:
    answered = classifier_pb2.ClassifyResponse(model="voc", version=2, activation="softmax",
                                               classifications=RESPONSE.classifications)
    assert [prediction.activation for prediction in Portion([A, C], raise_errors=False).predictions(answered)] == [
        "softmax"] * 2
    assert Portion([A, C], raise_errors=False).predictions(RESPONSE)[0].activation == ""


def test_what_is_unknown_of_a_model_is_none() -> None:
    info = model_info(classifier_pb2.GetModelResponse(
        model="voc", version=2, labels=[classifier_pb2.Label(name="cat", threshold=0, average_precision=0.75),
                                        classifier_pb2.Label(name="dog")], metrics={"map": 0.9},
        versions=[classifier_pb2.ModelVersion(version=3, state=classifier_pb2.ModelVersion.STATE_END, error="cut off"),
                  classifier_pb2.ModelVersion(version=2, state=99, labels=["stable"])]))
    assert [(label.name, label.threshold, label.average_precision) for label in info.labels] == [
        ("cat", 0.0, 0.75), ("dog", None, None)]
    assert info.metrics == {"map": 0.9}
    assert [(version.version, version.state, version.labels, version.error) for version in info.versions] == [
        (3, "END", (), "cut off"), (2, "99", ("stable",), "")]
