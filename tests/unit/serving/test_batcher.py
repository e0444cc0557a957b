"""A batch is what came in while the engine was busy, in sizes that were warmed up, and nothing that nobody wants."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from serving.batcher import Batcher, batch_sizes
from serving.engine import Inputs, Scores
from serving.errors import Expired, InvalidCall, NotReady, Overloaded


class Engine:
    """Answers a picture's own value; holds each batch until `release` lets it go."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.started, self.released = threading.Semaphore(0), threading.Semaphore(0)

    def predict(self, inputs: Inputs) -> Scores:
        self.sizes.append(len(inputs))
        self.started.release()
        assert self.released.acquire(timeout=5)
        if (inputs < 0).any():
            raise RuntimeError("negative")
        return Scores(inputs[:, 0, :1, 0], inputs[:, 0, :1, 0] * 2)

    async def busy(self) -> None:
        """Returns when the engine has taken its next batch."""
        assert await asyncio.to_thread(self.started.acquire, timeout=5)

    def release(self, batches: int = 1) -> None:
        self.released.release(batches)


def pictures(*values: float) -> list[Inputs]:
    return [np.full((2, 2, 3), value, np.float32) for value in values]


def scenario(play: Callable[[Batcher, Engine], Awaitable[None]]) -> Engine:
    """Plays with a batcher of 12 places and batches up to 4, on an event loop; closes it afterwards."""
    async def main() -> Engine:
        engine = Engine()
        batcher = Batcher(engine.predict, 4, 12)
        await asyncio.wait_for(play(batcher, engine), 10)
        engine.release(100)
        await batcher.close()
        return engine

    return asyncio.run(main())


def ask(batcher: Batcher, *values: float, deadline: float | None = None) -> asyncio.Task[Scores]:
    return asyncio.create_task(batcher.predict(pictures(*values), deadline))  # type: ignore[arg-type]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("largest", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (16, (1, 2, 4, 8, 16))])
def test_batch_sizes_are_powers_of_two_and_the_largest(largest: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(largest) == sizes


def test_a_lone_picture_does_not_wait_and_those_that_come_meanwhile_share_a_batch() -> None:
    async def play(batcher: Batcher, engine: Engine) -> None:
        first = ask(batcher, 1)
        await engine.busy()
        others = [ask(batcher, 2), ask(batcher, 3, 4), ask(batcher, 5, 6)]
        await settle()
        engine.release(3)
        assert (await first).probabilities.tolist() == [[1]]
        assert [(await other).probabilities.ravel().tolist() for other in others] == [[2], [3, 4], [5, 6]]
        assert (await others[1]).logits.ravel().tolist() == [6, 8]
        assert (batcher.counts.pictures, batcher.counts.batches, batcher.counts.largest) == (6, 3, 4)

    assert scenario(play).sizes == [1, 4, 1]


def test_only_warmed_up_sizes_are_run() -> None:
    async def play(batcher: Batcher, engine: Engine) -> None:
        first = ask(batcher, 0)
        await engine.busy()
        rest = ask(batcher, *range(1, 8))
        await settle()
        engine.release(10)
        await first
        assert (await rest).probabilities.ravel().tolist() == [1, 2, 3, 4, 5, 6, 7]

    assert scenario(play).sizes == [1, 4, 2, 1]


def test_the_cancelled_and_the_expired_are_dropped_when_their_turn_comes() -> None:
    async def play(batcher: Batcher, engine: Engine) -> None:
        first = ask(batcher, 1)
        await engine.busy()
        cancelled, expired, kept = ask(batcher, 2, 3), ask(batcher, 4, deadline=0.0), ask(batcher, 5)
        await settle()
        cancelled.cancel()
        engine.release(2)
        await first
        with pytest.raises(Expired):
            await expired
        assert (await kept).probabilities.tolist() == [[5]]
        assert batcher.counts.dropped == 3

    assert scenario(play).sizes == [1, 1]


def test_places_are_bounded_and_free_again_afterwards() -> None:
    async def play(batcher: Batcher, _: Engine) -> None:
        with batcher.admitted(7), batcher.admitted(5), pytest.raises(Overloaded, match="12 pictures are waiting"), \
                batcher.admitted(1):
            pass
        with pytest.raises(InvalidCall, match=r"up to 12 pictures \(--queue-size\), this one has 13"), \
                batcher.admitted(13):
            pass
        with batcher.admitted(12):
            assert batcher.counts.refused == 1

    scenario(play)


def test_an_engine_that_fails_fails_its_batch_and_not_the_next(caplog: pytest.LogCaptureFixture) -> None:
    async def play(batcher: Batcher, engine: Engine) -> None:
        engine.release(2)
        with pytest.raises(RuntimeError, match="negative"):
            await ask(batcher, -1)
        assert (await ask(batcher, 1)).probabilities.tolist() == [[1]]

    scenario(play)
    assert "the engine failed on a batch of 1" in caplog.text


def test_closing_finishes_the_batch_that_runs_and_refuses_the_rest() -> None:
    async def play(batcher: Batcher, engine: Engine) -> None:
        first = ask(batcher, 1)
        await engine.busy()
        second = ask(batcher, 2)
        await settle()
        closing: asyncio.Task[Any] = asyncio.create_task(batcher.close())
        await settle()
        engine.release()
        await closing
        assert (await first).probabilities.tolist() == [[1]]
        with pytest.raises(NotReady):
            await second

    scenario(play)
