"""voc_cls.v1.Classifier: picture files in, labels with probabilities out."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from google.protobuf.json_format import MessageToDict, ParseDict

from tests.integration.serving.conftest import Server, Start, jpeg
from tests.integration.serving.tiny_model import LABELS, MEAN, SIZE, metadata
from voc_cls.v1 import classifier_pb2


@pytest.fixture
def stub(server: Server) -> Any:
    return server.classifier()


def request(*contents: bytes, **fields: Any) -> classifier_pb2.ClassifyRequest:
    return classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=content) for content in contents],
                                          **fields)


def refused(call: Any, message: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call(message, timeout=20)
    return error.value.code(), error.value.details()


def answered(stub: Any, content: bytes, **fields: Any) -> dict[str, float]:
    labels = stub.Classify(request(content, **fields), timeout=20).classifications[0].labels
    probabilities = [scored.probability for scored in labels]
    assert probabilities == sorted(probabilities, reverse=True)
    return {scored.label: scored.probability for scored in labels}


def test_several_pictures_are_answered_in_their_order_with_their_labels_sorted(
        stub: Any, saved_model: Any, pictures: list[bytes]) -> None:
    answer = stub.Classify(request(*pictures), timeout=20)
    assert (answer.model, answer.version, len(answer.classifications)) == ("tiny", 10, len(pictures))
    expected = saved_model.signatures["serving_default"](image_bytes=tf.constant(pictures))["probabilities"].numpy()
    for row, classification in zip(expected, answer.classifications, strict=True):
        probabilities = [scored.probability for scored in classification.labels]
        assert probabilities == sorted(probabilities, reverse=True)
        answered = {scored.label: scored.probability for scored in classification.labels}
        np.testing.assert_allclose([answered[label] for label in LABELS], row, atol=1e-6)


def test_http_gives_what_grpc_gives_an_error_of_one_picture_included(server: Server, stub: Any, pictures: list[bytes]
                                                                     ) -> None:
    sent = request(pictures[0], b"%PDF-1.4", model="tiny", version=10, top_k=3)
    answer = requests.post(f"{server.http}/v1/classify", json=MessageToDict(sent), timeout=20).json()
    assert ParseDict(answer, classifier_pb2.ClassifyResponse()) == stub.Classify(sent, timeout=20)
    assert answer["calibration"] == ""  # in it, though empty
    for path in ("", "/versions/10"):
        about = requests.get(f"{server.http}/v1/models/tiny{path}/description", timeout=20).json()
        assert ParseDict(about, classifier_pb2.GetModelResponse()) == stub.GetModel(
            classifier_pb2.GetModelRequest(model="tiny"), timeout=20)


@pytest.mark.parametrize(("body", "status", "message"), [
    ({}, 400, "pictures is empty"),
    ({"pictures": ["abc"]}, 400, "the body is not as ClassifyRequest"),
    ({"images": []}, 400, "the body is not as ClassifyRequest"),
    ({"pictures": [{}] * 10_001}, 400, "pictures has 10001 entries"),
    ({"model": "dogs", "pictures": [{"content": ""}]}, 404, "no model 'dogs'"),
])
def test_http_refuses_what_is_no_request(server: Server, body: dict[str, Any], status: int, message: str) -> None:
    answer = requests.post(f"{server.http}/v1/classify", json=body, timeout=20)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(message)


def test_only_the_wanted_number_of_labels_is_answered(stub: Any, pictures: list[bytes]) -> None:
    everything = stub.Classify(request(pictures[0]), timeout=20).classifications[0].labels
    best = stub.Classify(request(pictures[0], top_k=3), timeout=20).classifications[0].labels
    assert list(best) == list(everything[:3])
    assert len(stub.Classify(request(pictures[0], top_k=1000), timeout=20).classifications[0].labels) == len(LABELS)


def test_the_model_may_be_named_and_another_is_not_found(stub: Any, pictures: list[bytes]) -> None:
    assert stub.Classify(request(pictures[0], model="tiny", version=10), timeout=20).version == 10
    assert refused(stub.Classify, request(pictures[0], model="huge")) == (
        grpc.StatusCode.NOT_FOUND, "no model 'huge'; this server has 'tiny'")
    code, details = refused(stub.Classify, request(pictures[0], version=0))
    assert code is grpc.StatusCode.NOT_FOUND
    assert details.startswith("model 'tiny' has no version 0; this server has ")
    assert refused(stub.Classify, request(pictures[0], model="../tiny"))[0] is grpc.StatusCode.NOT_FOUND


def test_a_call_without_pictures_is_invalid(stub: Any) -> None:
    assert refused(stub.Classify, request()) == (grpc.StatusCode.INVALID_ARGUMENT,
                                                 "pictures is empty: send at least one")


def test_a_call_with_more_pictures_than_places_is_invalid(stub: Any) -> None:
    code, details = refused(stub.Classify, request(*[jpeg(0)] * 41))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("one call may bring up to 40 pictures (`queue_size`), this one has 41")


@pytest.mark.parametrize(("broken", "message"), [
    (b"", "not a JPEG, PNG, BMP, GIF, WebP or TIFF picture: empty"),
    (b"%PDF-1.4 and more", "not a JPEG, PNG, BMP, GIF, WebP or TIFF picture: 17 bytes that start with '%PDF-1.4'"),
    (jpeg(0)[:1500], "a damaged JPEG picture: its end is missing after 1500 bytes"),
    (jpeg(0)[:20], "a damaged JPEG picture: its header ends after 20 bytes"),
    (b"\x89PNG\r\n\x1a\n", "a damaged PNG picture: its header ends after 8 bytes"),
])
def test_a_broken_picture_fails_alone_and_says_what_is_wrong(stub: Any, pictures: list[bytes], broken: bytes,
                                                             message: str) -> None:
    answer = stub.Classify(request(pictures[0], broken, pictures[1]), timeout=20)
    assert [len(classification.labels) for classification in answer.classifications] == [len(LABELS), 0, len(LABELS)]
    assert [classification.HasField("error") for classification in answer.classifications] == [False, True, False]
    alone = answered(stub, pictures[1])
    np.testing.assert_allclose([alone[scored.label] for scored in answer.classifications[2].labels],
                               [scored.probability for scored in answer.classifications[2].labels], atol=1e-6)
    error = answer.classifications[1].error
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert not error.HasField("retry_after_ms")
    assert error.message.startswith(f"pictures[1] is {message}")
    assert "\n" not in error.message
    assert "node" not in error.message


def test_a_call_of_broken_pictures_only_is_answered_too(stub: Any) -> None:
    answer = stub.Classify(request(b"broken", b"", top_k=1), timeout=20)
    assert [classification.error.message.split(":")[0] for classification in answer.classifications] == [
        f"pictures[{index}] is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture" for index in (0, 1)]


def bomb(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that decodes to width × height black pixels."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((width // 8 + 1) * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)) \
        + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_by_its_header(stub: Any) -> None:
    assert len(stub.Classify(request(bomb(1000, 1999)), timeout=20).classifications) == 1
    answer = stub.Classify(request(bomb(8000, 8000)), timeout=20)
    assert answer.classifications[0].error.message == (
        "pictures[0] is too large: 64.0 megapixels, this server decodes up to 2 (`max_megapixels`)")


def test_a_message_above_the_limit_is_refused_before_it_is_read(stub: Any) -> None:
    code, details = refused(stub.Classify, request(bytes(5 * 2**20)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "4194304" in details


def test_a_failed_call_leaves_the_next_one_alone(stub: Any, pictures: list[bytes]) -> None:
    refused(stub.Classify, request())
    assert len(stub.Classify(request(*pictures), timeout=20).classifications) == len(pictures)


@pytest.fixture(scope="module")
def described(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of two versions: 1 says as little of itself as an old export, 2 has thresholds and an evaluation."""
    folder = tmp_path_factory.mktemp("described") / "voc"
    says = {"1": {"format": 1, "labels": list(LABELS), "preprocessing": metadata()["preprocessing"]},
            "2": {**metadata(), "net": "vgg_16", "weights_digest": "50cc",
                  "trained_on": {"data": "folder", "train_split": "train", "difficult": "ignore", "pictures": 1234},
                  "thresholds": {label: round(0.1 + column / 25, 2) for column, label in enumerate(LABELS)},
                  "metrics": {"map": 0.75, "of1": None, "classes": {"cat": {"ap": 0.875}, "dog": {"ap": None}}}}}
    for number, content in says.items():
        shutil.copytree(model / "10", folder / number)
        (folder / number / "assets" / "voc_cls.json").write_text(json.dumps(content))
    starter = Start(tmp_path_factory.mktemp("server"))
    yield starter(folder, "--versions", "all", "--version-labels", "stable=1",
                  "canary=2").wait_until_ready().classifier()
    starter.end_all()


def test_a_threshold_leaves_out_less_probable_labels_before_top_k_counts(described: Any, pictures: list[bytes]) -> None:
    everything = answered(described, pictures[0])
    middle = sorted(everything.values())[len(LABELS) // 2]
    assert answered(described, pictures[0], threshold=middle) == {
        label: probability for label, probability in everything.items() if probability >= middle}
    assert list(answered(described, pictures[0], threshold=middle, top_k=3)) == list(everything)[:3]
    assert answered(described, pictures[0], threshold=0) == everything
    assert answered(described, pictures[0], threshold=1) == {}
    assert len(answered(described, pictures[0], threshold=max(everything.values()), top_k=3)) == 1


def test_exported_thresholds_are_those_of_each_label(described: Any, pictures: list[bytes]) -> None:
    thresholds = {label.name: label.threshold for label in described.GetModel(
        classifier_pb2.GetModelRequest(version=2), timeout=20).labels}
    everything = answered(described, pictures[0], version=2)
    assert answered(described, pictures[0], version=2, exported_thresholds=True) == {
        label: probability for label, probability in everything.items() if probability >= thresholds[label]}
    assert answered(described, pictures[0], version=1, exported_thresholds=False) == everything
    assert refused(described.Classify, request(pictures[0], version=1, exported_thresholds=True)) == (
        grpc.StatusCode.INVALID_ARGUMENT, "exported_thresholds: this model was exported without a threshold for any "
                                          "label: send a threshold")


@pytest.mark.parametrize("threshold", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_threshold_that_is_no_probability_is_refused(described: Any, pictures: list[bytes], threshold: float) -> None:
    code, details = refused(described.Classify, request(pictures[0], threshold=threshold))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(f"threshold {threshold:g} is not a probability")


def test_a_version_is_chosen_by_its_number_or_by_its_label(described: Any, pictures: list[bytes]) -> None:
    def version(**fields: Any) -> int:
        return int(described.Classify(request(pictures[0], **fields), timeout=20).version)

    assert [version(), version(version=1), version(version_label="stable"), version(version_label="canary")] == [
        2, 1, 1, 2]
    assert refused(described.Classify, request(pictures[0], version=1, version_label="stable"))[0] is \
        grpc.StatusCode.INVALID_ARGUMENT
    code, details = refused(described.Classify, request(pictures[0], version_label="newest"))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "canary, stable" in details


def test_a_model_describes_itself(described: Any) -> None:
    found = described.GetModel(classifier_pb2.GetModelRequest(model="voc"), timeout=20)
    assert (found.model, found.version, found.net, found.activation, found.weights_digest) == (
        "voc", 2, "vgg_16", "sigmoid", "50cc")
    assert [label.name for label in found.labels] == list(LABELS)
    assert [round(label.threshold, 2) for label in found.labels[:3]] == [0.1, 0.14, 0.18]
    assert {label.name: label.average_precision for label in found.labels
            if label.HasField("average_precision")} == {"cat": 0.875}
    assert (found.preprocessing.size, found.preprocessing.channels, found.preprocessing.resize) == (
        SIZE, "RGB", "bilinear")
    np.testing.assert_allclose(found.preprocessing.mean, MEAN, rtol=1e-6)
    assert dict(found.metrics) == {"map": 0.75}
    assert found.training_data == "folder, split train, 1,234 pictures. Pretrained weights: none."
    available = classifier_pb2.ModelVersion.STATE_AVAILABLE
    assert [(version.version, version.state, list(version.labels), version.error) for version in found.versions] == [
        (2, available, ["canary"], ""), (1, available, ["stable"], "")]


def test_an_old_export_describes_itself_as_far_as_it_can(described: Any) -> None:
    found = described.GetModel(classifier_pb2.GetModelRequest(version_label="stable"), timeout=20)
    assert (found.version, found.activation, found.weights_digest, found.training_data, dict(found.metrics)) == (
        1, "sigmoid", "", "", {})
    assert not any(label.HasField("threshold") or label.HasField("average_precision") for label in found.labels)
    assert refused(described.GetModel, classifier_pb2.GetModelRequest(model="dogs")) == (
        grpc.StatusCode.NOT_FOUND, "no model 'dogs'; this server has 'voc'")
