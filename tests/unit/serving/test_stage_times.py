"""The parts of a request's time add up to the whole, however many images it has."""

from __future__ import annotations

import random
from typing import Any

import pytest

from serving import request_context
from serving.request_context import StageTimes

ONE = [("decode_queue", 1, 2), ("decode", 2, 5), ("queue", 5, 6), ("engine", 6, 10)]


def times(*spans: Any, begin: float = 0, end: float = 12) -> dict[str, float]:
    found = StageTimes(begin)
    for span in spans:
        found.add(*span)
    return found.until(end)


def test_of_one_image_each_part_is_its_own_time() -> None:
    assert times(*ONE) == {"receive": 1, "decode_queue": 1, "decode": 3, "queue": 1, "engine": 4, "answer": 2}
    assert sum(times(*ONE).values()) == 12


def test_what_follows_in_a_request_that_fails_is_no_answer() -> None:
    found = StageTimes(0)
    found.add("decode", 1, 2)
    assert found.until(5, failed=True) == {"receive": 1, "decode": 1, "unfinished": 3}


def test_a_request_without_images_has_no_parts() -> None:
    assert times() == {}


def test_at_moments_of_several_images_work_counts_before_waiting() -> None:
    other = [("decode_queue", 1, 5), ("decode", 5, 8), ("queue", 8, 10), ("engine", 10, 11)]
    assert times(*ONE, *other) == {"receive": 1, "decode_queue": 1, "decode": 4, "engine": 5, "answer": 1}


def test_images_of_a_batch_count_once_and_the_pauses_of_a_stream_are_its_callers() -> None:
    batch = [("queue", 1, 2), ("engine", 2, 4)] * 16
    assert times(*batch, ("engine", 7, 9)) == {"receive": 4, "queue": 1, "engine": 4, "answer": 3}


@pytest.mark.parametrize("most", [10, 4096])
def test_the_parts_of_thousands_of_images_add_up_also_where_they_are_summed_up_on_the_way(
        most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_context, "MOST_SPANS", most)
    draw = random.Random(0)
    found, last = StageTimes(100.0), 100.0
    for _ in range(3000):
        moment = 100 + draw.random() * 50
        for stage in ("decode_queue", "decode", "queue", "engine"):
            end = moment + draw.random()
            found.add(stage, moment, end)  # type: ignore[arg-type]
            moment = end
        last = max(last, moment)
    parts = found.until(last + 1)
    assert sum(parts.values()) == pytest.approx(last + 1 - 100)
    assert found.images == 3000
    assert found.runtime is not None
    assert found.runtime < last - 100
