"""Thousands of bad inputs to every method and port; `make endurance` sends a hundred thousand."""

from __future__ import annotations

from typing import Any

from tests.bombardment import bombard
from tests.integration.serving.conftest import Server, jpeg
from voc_cls.v1 import classifier_pb2

INPUTS = 2_000
SEED = 20261122
"""Fixed, so that a run that fails fails again; `make endurance` takes another each time."""
GROWTH = 256 * 2**20
"""Bytes: the first inputs of all kinds touch every buffer that there is."""


def probabilities(server: Server) -> list[float]:
    answer = server.classifier().Classify(
        classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=jpeg(0))]), timeout=30)
    return [label.probability for label in answer.classifications[0].labels]


def test_bad_inputs_of_every_kind_are_refused_and_leave_no_trace(server: Server, saved_model: Any) -> None:
    right = sorted(saved_model.signatures["serving_default"](image_bytes=[jpeg(0)])["probabilities"].numpy()[0],
                   reverse=True)
    before = server.condition()

    tally = bombard(server.address, server.http, INPUTS, SEED)
    print(tally)

    assert not tally.faults, "\n".join(map(str, tally.faults[:20]))
    assert tally.inputs >= INPUTS
    assert {"picture", "no picture", "OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "200", "400", "404"} <= {
        status for _, status in tally.statuses}, "the inputs no longer reach what they are for"
    assert server.process.poll() is None
    after = server.condition()
    assert after.engines == before.engines
    assert after.memory < before.memory + GROWTH
    assert server.health() == "SERVING"
    assert all(abs(ours - theirs) < 1e-4 for ours, theirs in zip(probabilities(server), right, strict=True))
