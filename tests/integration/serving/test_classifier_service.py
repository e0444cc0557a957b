"""voc_cls.v1.Classifier: picture files in, labels with probabilities out."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from tests.integration.serving.conftest import Server, jpeg
from tests.integration.serving.tiny_model import LABELS
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


def test_only_the_wanted_number_of_labels_is_answered(stub: Any, pictures: list[bytes]) -> None:
    everything = stub.Classify(request(pictures[0]), timeout=20).classifications[0].labels
    best = stub.Classify(request(pictures[0], top_k=3), timeout=20).classifications[0].labels
    assert list(best) == list(everything[:3])
    assert len(stub.Classify(request(pictures[0], top_k=1000), timeout=20).classifications[0].labels) == len(LABELS)


def test_the_model_may_be_named_and_another_is_not_found(stub: Any, pictures: list[bytes]) -> None:
    assert stub.Classify(request(pictures[0], model="tiny", version=10), timeout=20).version == 10
    assert refused(stub.Classify, request(pictures[0], model="huge")) == (
        grpc.StatusCode.NOT_FOUND, "no model 'huge'; this server has 'tiny'")
    assert refused(stub.Classify, request(pictures[0], version=0)) == (
        grpc.StatusCode.NOT_FOUND, "model 'tiny' has no version 0; this server has 10")


def test_a_call_without_pictures_is_invalid(stub: Any) -> None:
    assert refused(stub.Classify, request()) == (grpc.StatusCode.INVALID_ARGUMENT,
                                                 "pictures is empty: send at least one")


def test_a_call_with_more_pictures_than_places_is_invalid(stub: Any) -> None:
    code, details = refused(stub.Classify, request(*[jpeg(0)] * 41))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("one call may bring up to 40 pictures (--queue-size), this one has 41")


@pytest.mark.parametrize(("broken", "message"), [
    (b"", "not a JPEG, PNG, BMP or GIF picture: empty"),
    (b"%PDF-1.4 and more", "not a JPEG, PNG, BMP or GIF picture: 17 bytes that start with b'%PDF-1.4'"),
    (jpeg(0)[:1500], "a damaged JPEG picture of 1500 bytes: "),
    (jpeg(0)[:20], "a damaged JPEG picture: its header ends after 20 bytes"),
    (b"\x89PNG\r\n\x1a\n", "a damaged PNG picture: its header ends after 8 bytes"),
])
def test_a_broken_picture_is_named_by_its_index_and_what_is_wrong(stub: Any, pictures: list[bytes], broken: bytes,
                                                                  message: str) -> None:
    code, details = refused(stub.Classify, request(pictures[0], broken, pictures[1], b"also broken"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(f"pictures[1] is {message}")
    assert "\n" not in details
    assert "node" not in details


def bomb(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that decodes to width × height black pixels."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((width // 8 + 1) * height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)) \
        + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_by_its_header(stub: Any) -> None:
    assert len(stub.Classify(request(bomb(1000, 1999)), timeout=20).classifications) == 1
    assert refused(stub.Classify, request(bomb(8000, 8000))) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "pictures[0] is too large: 64.0 megapixels, this server decodes up to 2 (--max-megapixels)")


def test_a_message_above_the_limit_is_refused_before_it_is_read(stub: Any) -> None:
    code, details = refused(stub.Classify, request(bytes(5 * 2**20)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "4194304" in details


def test_a_failed_call_leaves_the_next_one_alone(stub: Any, pictures: list[bytes]) -> None:
    refused(stub.Classify, request(b"broken"))
    assert len(stub.Classify(request(*pictures), timeout=20).classifications) == len(pictures)
