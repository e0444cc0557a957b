"""A batch is what came in while the engine was busy, in sizes that were warmed up, and nothing that nobody wants."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from serving.engine.batcher import Batcher, batch_sizes
from serving.engine.process import EngineLost, Inputs, Scores
from serving.errors import DeadlineExceeded, Internal, Unavailable
from serving.request_context import RequestContext, Stage
from serving.telemetry.metrics import DropReason


class Engine:
    """Answers a picture's own value; holds each batch until `release` lets it go."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.explained: list[int] = []
        """Which of the batches were to be explained."""
        self.started, self.released = threading.Semaphore(0), threading.Semaphore(0)

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]

    def predict(self, inputs: Sequence[Inputs], explain: bool = False) -> Scores:
        values = np.array([picture[0, :1, 0] for picture in inputs])
        self.explained += [len(self.batches)] if explain else []
        self.batches.append(values.ravel().tolist())
        self.started.release()
        assert self.released.acquire(timeout=5)
        if (values == -1).any():
            raise RuntimeError("negative")
        if (values == -2).any():
            raise EngineLost("its process has ended")
        return Scores(values, values * 2)

    async def busy(self) -> None:
        """Returns when the engine has taken its next batch."""
        assert await asyncio.to_thread(self.started.acquire, timeout=5)

    def release(self, batches: int = 1) -> None:
        self.released.release(batches)


class RecordedMetrics:
    """What the batcher reports."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.drops: list[tuple[DropReason, int]] = []

    def batch(self, pictures: int, seconds: float) -> None:
        assert seconds >= 0
        self.batches.append(pictures)

    def dropped(self, reason: DropReason, pictures: int) -> None:
        self.drops.append((reason, pictures))


def caller(number: int = 0, client: str = "127.0.0.1", deadline: float | None = None, **more: Any) -> RequestContext:
    return RequestContext(f"call {number}", "/voc_cls.v1.Classifier/Classify", client, deadline, **more)


def ask(batcher: Batcher, call: RequestContext, *values: float, explain: bool = False) -> asyncio.Task[list[float]]:
    """The answers to pictures that are one value each."""
    async def answers() -> list[float]:
        pictures = [np.full((2, 2, 3), value, np.float32) for value in values]
        return [float(scores.probabilities[0, 0]) for scores in await batcher.predict(pictures, call, explain)]

    return asyncio.create_task(answers())


def scenario(play: Callable[[Batcher, Engine, RecordedMetrics], Awaitable[None]], timeout: float = 0) -> Engine:
    """Plays with a batcher of batches up to 4, on an event loop; closes it afterwards."""
    async def main() -> Engine:
        engine, metrics = Engine(), RecordedMetrics()
        batcher = Batcher(engine.predict, batch_sizes(4), timeout, metrics.batch, metrics.dropped)
        await asyncio.wait_for(play(batcher, engine, metrics), 10)
        engine.release(100)
        await batcher.close()
        return engine

    return asyncio.run(main())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("largest", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 16))])
def test_batch_sizes_are_powers_of_two_and_the_largest(largest: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(largest) == sizes


def test_a_lone_picture_does_not_wait_and_those_that_come_meanwhile_share_a_batch() -> None:
    async def play(batcher: Batcher, engine: Engine, metrics: RecordedMetrics) -> None:
        first = ask(batcher, caller(1), 1)
        await engine.busy()
        others = [ask(batcher, caller(2), 2), ask(batcher, caller(3), 3, 4), ask(batcher, caller(4), 5, 6)]
        await settle()
        engine.release(3)
        assert await first == [1]
        assert [await other for other in others] == [[2], [3, 4], [5, 6]]
        assert (batcher.images, batcher.batches, batcher.largest) == (6, 3, 4)
        assert metrics.batches == [1, 4, 1]

    assert scenario(play).sizes == [1, 4, 1]


def test_only_warmed_up_sizes_are_run() -> None:
    async def play(batcher: Batcher, engine: Engine, _: RecordedMetrics) -> None:
        first = ask(batcher, caller(1), 0)
        await engine.busy()
        rest = ask(batcher, caller(2), *range(1, 8))
        await settle()
        engine.release(10)
        await first
        assert await rest == [1, 2, 3, 4, 5, 6, 7]

    assert scenario(play).sizes == [1, 4, 2, 1]


def test_a_single_picture_is_not_behind_all_those_of_a_large_call() -> None:
    async def play(batcher: Batcher, engine: Engine, _: RecordedMetrics) -> None:
        first = ask(batcher, caller(1), 0)
        await engine.busy()
        large, single = ask(batcher, caller(2), *range(1, 13)), ask(batcher, caller(3), 99)
        await settle()
        engine.release()
        await engine.busy()
        engine.release()
        assert (await first, await single) == ([0], [99])
        assert not large.done()
        engine.release(10)
        assert await large == list(range(1, 13))

    assert 99 in scenario(play).batches[1]


def test_images_to_explain_are_computed_alone_in_turns_with_batches_of_the_others() -> None:
    async def play(batcher: Batcher, engine: Engine, _: RecordedMetrics) -> None:
        first = ask(batcher, caller(1), 1)
        await engine.busy()
        explained = ask(batcher, caller(2), 10, 11, 12, explain=True)
        others = ask(batcher, caller(3), 2, 3, 4, 5, 6, 7)
        await settle()
        engine.release(100)
        assert await first == [1]
        assert (await explained, await others) == ([10, 11, 12], [2, 3, 4, 5, 6, 7])

    engine = scenario(play)
    assert engine.batches[1:6] == [[10], [2, 3, 4, 5], [11], [6, 7], [12]]
    assert engine.explained == [1, 3, 5]


def test_a_batch_that_is_not_full_waits_for_others_as_long_as_it_is_metrics() -> None:
    async def play(batcher: Batcher, engine: Engine, _: RecordedMetrics) -> None:
        engine.release(1)
        begun = time.monotonic()
        first = ask(batcher, caller(1), 1)
        await asyncio.sleep(0.05)
        second = ask(batcher, caller(2), 2)
        assert (await first, await second) == ([1], [2])
        assert time.monotonic() - begun >= 0.3

    assert scenario(play, timeout=0.3).sizes == [2]


def test_a_full_batch_waits_for_nobody() -> None:
    async def play(batcher: Batcher, engine: Engine, _: RecordedMetrics) -> None:
        engine.release(1)
        assert await ask(batcher, caller(3), 3, 4, 5, 6) == [3, 4, 5, 6]

    assert scenario(play, timeout=86400).sizes == [4]


def test_the_cancelled_and_the_expired_are_dropped_when_their_turn_comes_and_counted_by_reason() -> None:
    async def play(batcher: Batcher, engine: Engine, metrics: RecordedMetrics) -> None:
        first = ask(batcher, caller(1), 1)
        await engine.busy()
        cancelled, kept = ask(batcher, caller(2), 2, 3), ask(batcher, caller(4), 5)
        expired = ask(batcher, caller(3, deadline=asyncio.get_running_loop().time() + 0.01), 4)
        await asyncio.sleep(0.02)
        cancelled.cancel()
        engine.release(2)
        await first
        with pytest.raises(DeadlineExceeded):
            await expired
        assert await kept == [5]
        assert batcher.dropped == 3
        assert sorted(metrics.drops) == [("cancelled", 2), ("expired", 1)]

    assert scenario(play).batches == [[1], [5]]


def test_a_call_hears_how_long_its_pictures_waited_and_were_computed() -> None:
    heard: list[tuple[Stage, float]] = []

    async def play(batcher: Batcher, engine: Engine, _: RecordedMetrics) -> None:
        first = ask(batcher, caller(1), 1)
        await engine.busy()
        second = ask(batcher, caller(2, on_stage=lambda name, begin, end: heard.append((name, end - begin))), 2)
        await asyncio.sleep(0.1)
        engine.release()
        await first
        await engine.busy()
        engine.release()
        await second

    scenario(play)
    (queue, waited), (stage, computed) = heard
    assert (queue, stage) == ("queue", "engine")
    assert 0.1 <= waited < 5
    assert 0 <= computed < 5


def test_an_image_that_fails_its_batch_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def play(batcher: Batcher, engine: Engine, _: RecordedMetrics) -> None:
        first = ask(batcher, caller(1), 1)
        await engine.busy()
        bad, good = ask(batcher, caller(2), -1), ask(batcher, caller(3), 2)
        await settle()
        engine.release(4)
        with pytest.raises(RuntimeError, match="negative"):
            await bad
        assert (await first, await good) == ([1], [2])
        assert engine.sizes == [1, 2, 1, 1]

    scenario(play)
    assert "batch of 2" in caplog.text


def test_a_batch_lost_with_its_engine_is_computed_by_the_next_and_an_image_that_ends_two_fails(
        caplog: pytest.LogCaptureFixture) -> None:
    async def play(batcher: Batcher, engine: Engine, _: RecordedMetrics) -> None:
        first = ask(batcher, caller(1), 1)
        await engine.busy()
        poison, good = ask(batcher, caller(2), -2), ask(batcher, caller(3), 2)
        waiting = ask(batcher, caller(4), 3, 4, 5)
        gone = ask(batcher, caller(5, deadline=asyncio.get_running_loop().time()), 6)
        lost = asyncio.Event()
        batcher.on_lost = lost.set
        await settle()
        engine.release(100)
        assert await first == [1]
        await lost.wait()
        assert not any(call.done() for call in (poison, good, waiting))
        lost.clear()
        batcher.resume()
        with pytest.raises(Internal, match="ended twice while it computed this picture"):
            await poison
        await lost.wait()
        assert not any(call.done() for call in (good, waiting))
        batcher.resume()
        assert (await good, await waiting) == ([2], [3, 4, 5])
        with pytest.raises(DeadlineExceeded):
            await gone

    engine = scenario(play)
    assert engine.batches[:3] == [[1], [-2, 2, 3, 4], [-2]]
    assert "a batch of 4 is lost: its process has ended" in caplog.text


def test_images_that_wait_for_an_engine_that_will_not_come_are_told() -> None:
    async def play(batcher: Batcher, engine: Engine, _: RecordedMetrics) -> None:
        engine.release(100)
        lost = asyncio.Event()
        batcher.on_lost = lost.set
        waiting = ask(batcher, caller(1), -2)
        await lost.wait()
        batcher.expect_no_other()
        for call in (waiting, ask(batcher, caller(2), 1)):
            with pytest.raises(Unavailable):
                await call

    scenario(play)


def test_closing_does_not_wait_for_the_engine_that_is_lost_meanwhile() -> None:
    async def play(batcher: Batcher, engine: Engine, _: RecordedMetrics) -> None:
        lost = ask(batcher, caller(1), -2)
        await engine.busy()
        closing: asyncio.Task[Any] = asyncio.create_task(batcher.close())
        await settle()
        engine.release()
        await closing
        with pytest.raises(Unavailable):
            await lost

    scenario(play)


def test_closing_finishes_the_batch_that_runs_and_refuses_those_that_wait_and_those_that_come() -> None:
    async def play(batcher: Batcher, engine: Engine, _: RecordedMetrics) -> None:
        first = ask(batcher, caller(1), 1)
        await engine.busy()
        second = ask(batcher, caller(2), 2)
        await settle()
        closing: asyncio.Task[Any] = asyncio.create_task(batcher.close())
        await settle()
        engine.release()
        await closing
        assert await first == [1]
        for late in (second, ask(batcher, caller(3), 3)):
            with pytest.raises(Unavailable):
                await late

    scenario(play)
