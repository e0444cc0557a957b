"""A client gets what it is allowed and not more, and many clients do not cost much memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import ExitStack

import pytest

from serving.errors import ResourceExhausted
from serving.security.limits import MOST_CLIENTS, ClientLimits


class Clock:
    """A time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limits(clock: Clock, most_clients: int = MOST_CLIENTS, *, rate: float = 0, burst: int = 20,
           concurrency: int = 0) -> ClientLimits:
    return ClientLimits(rate, burst, concurrency, most_clients, clock)


def calls_let_through(counting: ClientLimits, client: str, tries: int) -> int:
    passed = 0
    for _ in range(tries):
        try:
            with counting.admitted(client):
                passed += 1
        except ResourceExhausted:
            pass
    return passed


def test_without_limits_everything_passes_and_nothing_is_kept() -> None:
    counting = limits(Clock())
    assert calls_let_through(counting, "a", 1000) == 1000
    for _ in range(1000):
        counting.take("a")
    assert len(counting) == 0


def test_a_burst_passes_and_then_the_rate() -> None:
    clock = Clock()
    counting = limits(clock, rate=2, burst=5)
    assert calls_let_through(counting, "a", 100) == 5
    clock.now += 3
    assert calls_let_through(counting, "a", 100) == 5  # not the 6 of three seconds, as a burst is 5
    clock.now += 0.5
    assert calls_let_through(counting, "a", 100) == 1


def test_over_an_hour_the_rate_is_met_however_a_client_hammers() -> None:
    clock = Clock()
    counting, passed = limits(clock, rate=0.5, burst=3), 0
    for _ in range(36000):
        clock.now += 0.1
        passed += calls_let_through(counting, "a", 1)
    assert passed == pytest.approx(1800 + 3, abs=1)


def test_the_refusal_says_when_a_call_would_pass() -> None:
    clock = Clock()
    counting = limits(clock, rate=4, burst=1)
    calls_let_through(counting, "photo-app", 1)
    clock.now += 0.1
    with pytest.raises(ResourceExhausted,
                       match=r"client 'photo-app' makes more than the 4 calls per second .* wait 0\.15 s") \
            as error, counting.admitted("photo-app"):
        pass
    assert error.value.retry_after == pytest.approx(0.15)
    clock.now += error.value.retry_after + 1e-9
    assert calls_let_through(counting, "photo-app", 2) == 1


def test_one_client_does_not_pay_for_another() -> None:
    counting = limits(Clock(), rate=1, burst=1)
    assert calls_let_through(counting, "a", 10) == 1
    assert calls_let_through(counting, "b", 10) == 1


def test_the_messages_of_a_stream_count_as_calls_do() -> None:
    clock = Clock()
    counting = limits(clock, rate=10, burst=3)
    with counting.admitted("a"):
        counting.take("a")
        counting.take("a")
        with pytest.raises(ResourceExhausted) as error:
            counting.take("a")
        assert error.value.retry_after == pytest.approx(0.1)
        clock.now += 0.1
        counting.take("a")
    assert calls_let_through(counting, "a", 1) == 0


def test_so_many_calls_at_a_time_and_a_place_is_free_when_one_ends() -> None:
    counting = limits(Clock(), concurrency=2)
    with counting.admitted("a"):
        with counting.admitted("a"), counting.admitted("b"):
            with pytest.raises(ResourceExhausted,
                               match="client 'a' has 2 calls running") as error, counting.admitted("a"):
                pass
            assert error.value.retry_after is None
        assert calls_let_through(counting, "a", 1) == 1
    assert len(counting) == 0


def test_a_call_that_fails_or_is_cancelled_frees_its_place() -> None:
    counting = limits(Clock(), concurrency=1)

    async def call() -> None:
        with counting.admitted("a"):
            await asyncio.sleep(60)

    async def cancelled() -> None:
        running = asyncio.ensure_future(call())
        await asyncio.sleep(0)
        assert calls_let_through(counting, "a", 1) == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(cancelled())
    with pytest.raises(ZeroDivisionError), counting.admitted("a"):
        1 / 0  # noqa: B018
    assert calls_let_through(counting, "a", 1) == 1


def test_a_call_refused_for_its_company_costs_nothing_of_the_rate() -> None:
    counting = limits(Clock(), rate=1, burst=2, concurrency=1)
    with counting.admitted("a"):
        assert calls_let_through(counting, "a", 10) == 0
    assert calls_let_through(counting, "a", 10) == 1


def test_a_call_refused_for_the_rate_takes_no_place() -> None:
    clock = Clock()
    counting = limits(clock, rate=1, burst=1, concurrency=1)
    assert calls_let_through(counting, "a", 10) == 1
    clock.now += 1
    assert calls_let_through(counting, "a", 10) == 1


def test_idle_clients_are_forgotten_and_lose_nothing_by_it() -> None:
    clock = Clock()
    counting = limits(clock, rate=1, burst=5)
    for number in range(100):
        calls_let_through(counting, f"client-{number}", 1)
    assert len(counting) == 100
    clock.now += 5
    for number in range(100):
        calls_let_through(counting, f"new-{number}", 1)
    assert len(counting) == 100
    assert calls_let_through(counting, "client-7", 10) == 5


def test_a_client_that_has_used_up_its_calls_is_not_forgotten_early() -> None:
    clock = Clock()
    counting = limits(clock, rate=0.001, burst=5)
    assert calls_let_through(counting, "a", 10) == 5
    for number in range(1000):
        clock.now += 0.1
        calls_let_through(counting, f"new-{number}", 1)
    assert calls_let_through(counting, "a", 10) == 0


def test_an_attacker_with_many_names_cannot_fill_the_memory() -> None:
    counting = limits(Clock(), rate=1, burst=5, concurrency=5)
    tracemalloc.start()
    try:
        for number in range(3 * MOST_CLIENTS):
            calls_let_through(counting, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1)
        assert len(counting) == MOST_CLIENTS
        assert tracemalloc.get_traced_memory()[0] < 8e6
    finally:
        tracemalloc.stop()


def test_a_forgotten_clients_running_calls_still_count() -> None:
    counting = limits(Clock(), most_clients=10, rate=1, burst=5, concurrency=2)
    with ExitStack() as running:
        running.enter_context(counting.admitted("a"))
        running.enter_context(counting.admitted("a"))
        for number in range(100):
            calls_let_through(counting, f"b-{number}", 1)
        assert calls_let_through(counting, "a", 1) == 0
    assert calls_let_through(counting, "a", 1) == 1


def test_the_addresses_of_one_ipv6_network_are_one_client() -> None:
    counting = limits(Clock(), rate=1, burst=2, concurrency=1)
    assert sum(calls_let_through(counting, f"2001:db8:1:2:{number:x}::7", 1) for number in range(1, 50)) == 2
    assert calls_let_through(counting, "2001:db8:1:3::7", 9) == 2
    with counting.admitted("2001:db8:9:9::1"):
        assert calls_let_through(counting, "2001:db8:9:9::2", 1) == 0
    assert calls_let_through(counting, "a:b:c", 9) == 2  # a name that only looks so
