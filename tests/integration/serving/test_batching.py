"""Many callers share batches, each gets the answers to its own pictures, and what nobody waits for is not computed."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from tests.integration.serving.conftest import Server, Start, jpeg
from tests.integration.serving.tiny_model import LABELS, export_tiny_model
from voc_cls.v1 import classifier_pb2

CALLERS, ROUNDS = 32, 3


def classify(server: Server, pictures: list[bytes], timeout: float = 30) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[N, 20] probabilities in the order of LABELS."""
    request = classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=one) for one in pictures])
    answer = server.classifier().Classify(request, timeout=timeout)
    rows = [{scored.label: scored.probability for scored in one.labels} for one in answer.classifications]
    return np.array([[row[label] for label in LABELS] for row in rows])


def test_parallel_callers_get_answers_to_their_own_pictures_from_shared_batches(start: Start, tmp_path: Path) -> None:
    version = export_tiny_model(tmp_path / "busy" / "1", seconds=0.03)
    pictures = [[jpeg(10 * caller + number) for number in range(1 + caller % 3)] for caller in range(CALLERS)]
    answer = tf.saved_model.load(str(version)).signatures["serving_default"]
    expected = [answer(image_bytes=tf.constant(theirs))["probabilities"].numpy() for theirs in pictures]
    server = start(version.parent, "--queue-size", 200).wait_until_ready()
    with ThreadPoolExecutor(CALLERS) as callers:
        for _ in range(ROUNDS):
            answers = list(callers.map(lambda theirs: classify(server, theirs), pictures))
            for mine, right in zip(answers, expected, strict=True):
                np.testing.assert_allclose(mine, right, atol=1e-6)
    assert server.end() == 0
    counts = server.batches()
    assert counts["pictures"] == ROUNDS * sum(map(len, pictures))
    assert counts["largest"] == 16
    assert counts["batches"] < counts["pictures"] / 4
    assert (counts["dropped"], counts["refused"]) == (0, 0)


def test_what_nobody_waits_for_is_dropped_and_what_has_no_place_is_refused(start: Start, tmp_path: Path) -> None:
    version = export_tiny_model(tmp_path / "slow" / "1", seconds=1)
    server = start(version.parent, "--max-batch-size", 1, "--queue-size", 3).wait_until_ready()
    with ThreadPoolExecutor(4) as callers:
        first = callers.submit(classify, server, [jpeg(0)])
        time.sleep(0.3)
        impatient = callers.submit(classify, server, [jpeg(1)], 0.3)
        patient = callers.submit(classify, server, [jpeg(2)])
        time.sleep(0.15)
        with pytest.raises(grpc.RpcError) as error:
            classify(server, [jpeg(3)])
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.value.details() == ("3 pictures are waiting and --queue-size is 3, so there is no place for 1 "
                                         "more: try again in a moment")
        begun = time.monotonic()
        with pytest.raises(grpc.RpcError) as error:
            impatient.result()
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - begun < 0.5
        assert classify(server, [jpeg(4)]).shape == (1, 20)  # the place of the impatient one is free again
        assert (len(first.result()), len(patient.result())) == (1, 1)
    assert server.end() == 0
    assert server.batches() == {"pictures": 3, "batches": 3, "largest": 1, "dropped": 1, "refused": 1}
