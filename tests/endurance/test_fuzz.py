"""`make endurance`: a hundred thousand bad inputs to one server, which afterwards is as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

from tests.bombardment import UNREADABLE_EXPECT, bombard, condition
from tests.integration.serving.conftest import Server, Start, jpeg
from tests.integration.serving.tiny_model import export_tiny_model
from voc_cls.v1 import classifier_pb2

WARM_UP, INPUTS = 20_000, 100_000
GROWTH = 0.15
"""Share by which memory may grow after the warm-up. Pictures of all sizes on all threads leave the allocator's arenas
in pieces; what leaks with every input would show a hundred thousand times."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    export_tiny_model(tmp_path / "tiny" / "9", seed=9)
    export_tiny_model(tmp_path / "tiny" / "10", seed=10)
    start = Start(tmp_path)
    yield start(tmp_path / "tiny", "--max-message-mb", 4, "--max-megapixels", 2, "--versions", "9,10",
                "--version-labels", "stable=9", "--allow-reload").wait_until_ready()
    start.end_all()


def test_a_hundred_thousand_bad_inputs_harm_nothing(served: Server, tmp_path: Path) -> None:
    saved_model = tf.saved_model.load(str(tmp_path / "tiny" / "10"))
    right = sorted(saved_model.signatures["serving_default"](image_bytes=[jpeg(0)])["probabilities"].numpy()[0],
                   reverse=True)
    first = condition(served.process.pid)
    warm_up = bombard(served.address, served.http, WARM_UP)
    warm = condition(served.process.pid)
    tally = bombard(served.address, served.http, INPUTS - WARM_UP)
    last = condition(served.process.pid)
    for title, counts in (("warm-up", warm_up), ("then", tally)):
        print(f"{title}: {counts}")
    print("memory of server and engines, MiB: " + ", ".join(f"{one.memory / 2**20:.0f}" for one in (first, warm, last)))

    faults = warm_up.faults + tally.faults
    assert not faults, "\n".join(map(str, faults[:20]))
    assert warm_up.inputs + tally.inputs >= INPUTS
    assert served.process.poll() is None
    assert last.engines == first.engines
    assert last.memory < warm.memory * (1 + GROWTH)
    assert served.health() == "SERVING"
    answer = served.classifier().Classify(
        classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=jpeg(0))]), timeout=30)
    ours = [label.probability for label in answer.classifications[0].labels]
    assert all(abs(mine - theirs) < 1e-4 for mine, theirs in zip(ours, right, strict=True))
    assert served.end() == 0
    of_aiohttp = sum(counts.statuses["HTTP", UNREADABLE_EXPECT] for counts in (warm_up, tally))
    assert served.errors.read_text(errors="replace").count("Traceback") == of_aiohttp
