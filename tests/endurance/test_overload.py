"""At twice what it can do, for half an hour, the server answers every call, is as quick as ever, and does not grow.

    make endurance                                    a generated model whose batches take 0.3 s
    OVERLOAD_MODEL=models/voc OVERLOAD_PICTURES=JPEGImages OVERLOAD_MINUTES=30 make endurance
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from serving.telemetry.metrics import process_usage
from tests.integration.serving.conftest import Server, Start, jpeg
from tests.integration.serving.tiny_model import export_tiny_model
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc

MINUTES = float(os.environ.get("OVERLOAD_MINUTES", "30"))
QUEUE, CALLERS, CONNECTIONS = 64, 32, 16
MEASURED = 15.0
"""Seconds for which the capacity is measured."""
GROWTH = 1.10


@dataclass
class Tally:
    """What came of the calls."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Of the calls that were accepted."""


class Callers:
    """Several connections to a server, and pictures to send."""

    def __init__(self, address: str, pictures: list[bytes]) -> None:
        self._pictures = pictures
        self._channels = [grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
                          for _ in range(CONNECTIONS)]
        self._stubs = [classifier_pb2_grpc.ClassifierStub(channel) for channel in self._channels]  # type: ignore[no-untyped-call]
        self._sent = 0

    async def call(self, tally: Tally, deadline: float) -> None:
        self._sent += 1
        picture = classifier_pb2.Picture(content=self._pictures[self._sent % len(self._pictures)])
        begin = time.monotonic()
        try:
            answer = await self._stubs[self._sent % CONNECTIONS].Classify(
                classifier_pb2.ClassifyRequest(pictures=[picture], top_k=1), timeout=deadline)
        except grpc.RpcError as error:
            tally.statuses[error.code().name] += 1
            return
        assert len(answer.classifications[0].labels) == 1
        tally.statuses["OK"] += 1
        tally.seconds.append(time.monotonic() - begin)

    async def capacity(self) -> float:
        """Pictures per second with CALLERS callers that each wait for their answer."""
        tally, end = Tally(), time.monotonic() + MEASURED

        async def ask() -> None:
            while time.monotonic() < end:
                await self.call(tally, 60)

        await asyncio.gather(*(ask() for _ in range(CALLERS)))
        assert set(tally.statuses) == {"OK"}
        return tally.statuses["OK"] / MEASURED

    async def overload(self, rate: float, seconds: float, deadline: float, sample: list[int], server: Server) -> Tally:
        """Calls at `rate` per second at random moments, whether those before were answered or not."""
        tally, tasks, end = Tally(), set(), time.monotonic() + seconds
        following = sampled = time.monotonic()
        while time.monotonic() < end:
            task = asyncio.create_task(self.call(tally, deadline))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            following += random.expovariate(rate)
            await asyncio.sleep(max(0, following - time.monotonic()))
            if time.monotonic() >= sampled:
                sample.append(memory(server))
                sampled += seconds / 200
        await asyncio.gather(*tasks)
        return tally

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


def memory(server: Server) -> int:
    """Resident bytes of the server and its engines."""
    usages = map(process_usage, (server.process.pid, *engines_of(server)))
    return int(sum(usage.get("process_resident_memory_bytes", 0) for usage in usages))


def engines_of(server: Server) -> list[int]:
    """Process ids of its children."""
    pid = server.process.pid
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    starter = Start(tmp_path)
    yield starter
    starter.end_all()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    given = os.environ.get("OVERLOAD_MODEL")
    return Path(given) if given else export_tiny_model(tmp_path / "busy" / "1", seconds=0.3).parent


def some_pictures() -> list[bytes]:
    given = os.environ.get("OVERLOAD_PICTURES")
    return [file.read_bytes() for file in sorted(Path(given).glob("*.jpg"))[:200]] if given else [
        jpeg(seed) for seed in range(50)]


def test_at_twice_its_capacity_every_call_is_answered_and_nothing_grows(start: Start, model: Path) -> None:
    precision = os.environ.get("OVERLOAD_PRECISION", "auto")
    server = start(model, "--queue-size", QUEUE, "--precision", precision).wait_until_ready()
    engines = engines_of(server)
    sample: list[int] = []

    async def scenario() -> tuple[float, Tally]:
        callers = Callers(server.address, some_pictures())
        capacity = await callers.capacity()
        bound = 2 * QUEUE / capacity
        tally = await callers.overload(2 * capacity, 60 * MINUTES, 10 * bound + 5, sample, server)
        await callers.close()
        return capacity, tally

    capacity, tally = asyncio.run(scenario())
    bound = 2 * QUEUE / capacity
    p99 = statistics.quantiles(tally.seconds, n=100)[98]
    early, late = (statistics.median(part) for part in (sample[20:40], sample[-20:]))
    print(f"\n{MINUTES:g} minutes at twice {capacity:.1f} pictures/s: {dict(tally.statuses)}; accepted: "
          f"p50 {statistics.median(tally.seconds):.2f} s, p99 {p99:.2f} s (bound {bound:.2f} s), longest "
          f"{max(tally.seconds):.2f} s; memory {early / 2**20:.0f} → {late / 2**20:.0f} MiB")
    assert set(tally.statuses) <= {"OK", "RESOURCE_EXHAUSTED"}
    assert p99 <= bound
    assert late <= GROWTH * early
    assert engines_of(server) == engines
    assert server.health() == "SERVING"
    assert server.end() == 0
