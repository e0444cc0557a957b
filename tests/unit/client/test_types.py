"""Images are read when their turn comes and put into messages that fit; responses become plain data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from voc_cls.client.types import (
    IMAGES_PER_CALL,
    Image,
    batches,
    failed,
    load_image,
    model_info,
    predictions,
    raise_first,
)
from voc_cls.errors import ClientError
from voc_cls.prediction import Prediction, ScoredLabel
from voc_cls.v1 import classifier_pb2

MIB = 2**20
A, MISSING, C = Image(0, "a.jpg", b"a"), failed("b.jpg does not exist"), Image(2, "c.jpg", b"c")
RESPONSE = classifier_pb2.ClassifyResponse(model="voc", version=2, classifications=[
    classifier_pb2.Classification(labels=[classifier_pb2.ScoredLabel(label="cat", probability=0.5)]),
    classifier_pb2.Classification(error=classifier_pb2.Error(code=3, message="pictures[1] is empty"))])


def test_errors_stand_at_their_pictures_under_the_names_that_the_caller_knows() -> None:
    assert predictions(RESPONSE, [A, MISSING, C]) == [
        Prediction((ScoredLabel("cat", 0.5),), "voc", 2), Prediction((), "", None, "b.jpg does not exist"),
        Prediction((), "voc", 2, "c.jpg is empty")]


def test_or_the_first_is_raised_and_what_cannot_be_read_before_anything_is_sent() -> None:
    with pytest.raises(ClientError, match=r"^b\.jpg does not exist"):
        raise_first([A, MISSING, C])
    with pytest.raises(ClientError, match=r"^c\.jpg is empty$"):
        raise_first(predictions(RESPONSE, [A, C]))


def test_a_response_with_another_number_of_pictures_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        predictions(RESPONSE, [A])


def test_an_answer_says_what_its_probabilities_mean() -> None:
    answered = classifier_pb2.ClassifyResponse(model="voc", version=2, activation="softmax",
                                               classifications=RESPONSE.classifications)
    assert [prediction.activation for prediction in predictions(answered, [A, C])] == [
        "softmax"] * 2
    assert predictions(RESPONSE, [A, C])[0].activation == ""


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


def test_a_message_has_as_many_as_fit_by_number_and_by_size() -> None:
    def sizes(sources: list[bytes]) -> list[int]:
        return [len(batch) for batch in batches(sources, MIB)]

    assert sizes([b"x"] * 20) == [IMAGES_PER_CALL, 4]
    assert sizes([bytes(MIB // 3)] * 5) == [2, 2, 1]
    assert sizes([]) == []


def test_a_picture_keeps_its_position_and_name(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"content")
    (batch,) = batches([b"bytes", tmp_path / "a.jpg"], MIB)
    assert batch == [Image(0, "picture 0", b"bytes"), Image(1, f"{tmp_path}/a.jpg", b"content")]


def test_files_are_read_one_batch_at_a_time(tmp_path: Path) -> None:
    def sources() -> Iterator[Path]:
        for number in range(3 * IMAGES_PER_CALL):
            path = tmp_path / f"{number}"
            path.write_bytes(b"x")
            yield path

    next(batches(sources(), MIB))
    assert len(list(tmp_path.iterdir())) == IMAGES_PER_CALL + 1


def test_what_cannot_be_sent_says_why(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(MIB))
    for path, reason in ((tmp_path / "none", "does not exist"), (tmp_path, "is a folder, not a picture"),
                         (Path("/dev/null"), "is not a regular file"),
                         (tmp_path / "large", "has 1.0 MiB, more than the 1 MiB")):
        prediction = load_image(7, path, MIB)
        assert isinstance(prediction, Prediction)
        assert (prediction.error or "").startswith(f"{path} {reason}")


def test_a_name_as_text_is_a_mistake_of_the_program() -> None:
    wrong: Any = "a.jpg"
    with pytest.raises(TypeError, match=r"picture 3 is of type str: give a pathlib\.Path"):
        load_image(3, wrong, MIB)
