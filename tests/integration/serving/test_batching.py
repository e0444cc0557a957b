"""Many callers share batches, each gets the answers to its own pictures, and what nobody waits for is not computed."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
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
    assert counts["dropped"] == 0


def test_how_full_batches_are_and_how_long_pictures_wait_is_told(start: Start, tmp_path: Path) -> None:
    version = export_tiny_model(tmp_path / "tiny" / "1", seconds=0.2)
    server = start(version.parent, "--batch-timeout-ms", 1000, "--max-batch-size", 4).wait_until_ready()
    batches = {"model": "tiny", "version": "1"}

    def measured(name: str) -> float:
        return server.metric(f"voc_serve_{name}", model="tiny")

    with ThreadPoolExecutor(4) as callers:
        # one picture each, some time apart: without the timeout they would be four batches
        answers = []
        for seed in range(4):
            answers.append(callers.submit(classify, server, [jpeg(seed)]))
            time.sleep(0.05)
        assert [len(answer.result()) for answer in answers] == [1] * 4
    assert server.metric("voc_serve_batch_pictures_sum", **batches) == 4
    assert server.metric("voc_serve_batch_pictures_count", **batches) <= 2
    assert server.metric("voc_serve_batch_pictures_bucket", **batches, le="1.0") == 0
    assert [measured(f"{stage}_seconds_count") for stage in ("decode_queue", "decode", "queue", "engine")] == [4] * 4
    assert 0.05 < measured("queue_seconds_sum") < 4 * 1.5
    assert measured("engine_seconds_sum") >= 4 * 0.2
    begun = time.monotonic()
    classify(server, [jpeg(0)])
    assert time.monotonic() - begun >= 1.2  # alone it has waited for others, which is the price
    assert server.metric("voc_serve_batch_pictures_bucket", **batches, le="1.0") == 1
