"""Who loses what when memory or places run out, and what counts as too slow."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from serving import arrivals as module
from serving.arrivals import Arrivals, Connection
from serving.errors import DeadlineExceeded, ResourceExhausted, StatusError, Unavailable
from serving.request_context import RequestContext

MEBIBYTE = 2**20
Ended = dict[str, StatusError]


def outcome(budget: int, *waits: tuple[str, str, int],
            then: Callable[[Arrivals], Coroutine[Any, Any, None]] | None = None, **options: Any) -> Ended:
    """What ends of (name, client, bytes) when all arrive one after the other."""
    async def run() -> Ended:
        arrivals, ended = Arrivals(budget), Ended()

        async def body(name: str, client: str, size: int) -> None:
            try:
                async with arrivals.wait(client, **options) as arrival:
                    arrivals.count(arrival, size)
                    await asyncio.sleep(60)
            except StatusError as error:
                ended[name] = error

        tasks = []
        for one in waits:
            tasks.append(asyncio.create_task(body(*one)))
            await asyncio.sleep(0)
        await (then(arrivals) if then else asyncio.sleep(0.01))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (arrivals.taken, arrivals.idle) == (0, 0)
        return ended

    return asyncio.run(run())


def test_within_the_budget_nothing_is_ended() -> None:
    assert outcome(4 * MEBIBYTE, ("one", "a", MEBIBYTE), ("two", "a", MEBIBYTE), ("three", "b", MEBIBYTE)) == {}


def test_the_client_that_takes_most_loses_its_largest() -> None:
    ended = outcome(10 * MEBIBYTE, ("alone", "b", 4 * MEBIBYTE), ("small", "a", 2 * MEBIBYTE),
                    ("large", "a", 3 * MEBIBYTE), ("last", "c", 2 * MEBIBYTE))
    assert list(ended) == ["large"]
    assert isinstance(ended["large"], ResourceExhausted)
    assert "`receive_mb`" in str(ended["large"])
    assert ended["large"].retry_after


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    ended = outcome(7 * MEBIBYTE, ("one", "2001:db8::1", 2 * MEBIBYTE), ("two", "2001:db8::2", 3 * MEBIBYTE),
                    ("other", "2001:db8:1::1", 3 * MEBIBYTE))
    assert list(ended) == ["two"]


def test_what_has_arrived_counts_until_it_is_answered() -> None:
    async def hold(arrivals: Arrivals) -> None:
        request = RequestContext("1", "/a/B", "b")
        arrivals.hold(request, 3 * MEBIBYTE)
        await asyncio.sleep(0.01)
        with pytest.raises(ResourceExhausted):
            arrivals.hold(RequestContext("2", "/a/B", "b"), 2 * MEBIBYTE)
        arrivals.release(request, request.held)
        assert arrivals.held == 0

    assert list(outcome(4 * MEBIBYTE, ("one", "a", 2 * MEBIBYTE), then=hold)) == ["one"]


def test_of_too_many_that_wait_the_client_with_most_loses_its_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    ended = outcome(MEBIBYTE, ("good", "b", 0), ("first", "a", 0), ("second", "a", 0), ("third", "a", 0))
    assert list(ended) == ["first"]
    assert isinstance(ended["first"], Unavailable)


@pytest.mark.parametrize(("sizes", "ends"), [((MEBIBYTE, 0), True), ((0, 0), True), ((MEBIBYTE, MEBIBYTE), False)])
def test_what_arrives_too_slowly_is_ended(monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int], ends: bool) -> None:
    for name, value in {"TICK": 0.01, "SHORT_TICK": 0.01, "RATE_SECONDS": 0.1, "FIRST_SECONDS": 0.1}.items():
        monkeypatch.setattr(module, name, value)

    async def more(arrivals: Arrivals) -> None:
        for _ in range(30):
            await asyncio.sleep(0.01)
            for arrival in list(arrivals._open):
                arrivals.count(arrival, sizes[1] // 10)

    ended = outcome(100 * MEBIBYTE, ("one", "a", sizes[0]), then=more)
    assert bool(ended) == ends
    if ends:
        assert isinstance(ended["one"], DeadlineExceeded)
        assert ended["one"].http == 408


def test_an_idle_stream_is_ended_and_its_turn_begins_anew_with_an_answer() -> None:
    async def answer(arrivals: Arrivals) -> None:
        (arrival,) = arrivals._open
        arrival.turn(None)
        assert arrivals.idle == 0
        await asyncio.sleep(0.2)
        assert arrival.why is None
        arrival.turn(0.05)
        assert arrivals.idle == 1
        await asyncio.sleep(0.1)

    ended = outcome(MEBIBYTE, ("one", "a", 0), then=answer, seconds=0.1, is_stream=True)
    assert "idle for 0.1 s (`stream_idle_seconds`)" in str(ended["one"])


@pytest.mark.parametrize("rounds", [0, 1])
def test_an_answer_at_the_very_moment_of_the_end_does_not_hinder_it(rounds: int) -> None:
    async def end(arrivals: Arrivals) -> None:
        (arrival,) = arrivals._open
        arrival.end(lambda: Unavailable("others need the place"))
        for _ in range(rounds):
            await asyncio.sleep(0)
        arrival.turn(60)
        await asyncio.sleep(0.01)

    assert list(outcome(MEBIBYTE, ("one", "a", 0), then=end, is_stream=True)) == ["one"]


def test_a_connection_from_the_port_of_one_that_has_ended_is_looked_for_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        ours, (host, port) = listener.accept()
        with ours:
            arrivals = Arrivals(MEBIBYTE)
            connection = arrivals._connection(f"ipv4:{host}:{port}")
            assert connection is not None
            connection.descriptor, connection.received = listener.fileno(), 99  # as of the one that has ended
            client.sendall(b"1234")
            arrivals._look()
            assert (connection.descriptor, connection.received) == (None, 0)
            arrivals._look()
            assert (connection.descriptor, connection.received) == (ours.fileno(), 4)


def test_a_descriptor_that_is_another_socket_by_now_is_no_connection() -> None:
    one, other = socket.socketpair()
    with one, other:
        connection = Connection("127.0.0.1:1", descriptor=one.fileno())
        connection.look()
        assert connection.descriptor is None
