"""How many pictures may be in the server, and when whoever finds no place is told to come again."""

from __future__ import annotations

import time

import pytest

from serving.errors import InvalidArgument, ResourceExhausted
from serving.security.limits import LONGEST_RETRY, Capacity


def refused(places: Capacity, pictures: int = 1) -> ResourceExhausted:
    with pytest.raises(ResourceExhausted) as refusal, places.reserve(pictures):
        pass
    return refusal.value


def test_places_are_bounded_and_free_again_afterwards_even_if_the_call_failed() -> None:
    places = Capacity(12)
    with places.reserve(7), places.reserve(5):
        assert str(refused(places)) == ("12 pictures are waiting and `queue_size` is 12, so there is no place for 1 "
                                        "more: try again in a moment")
    with pytest.raises(RuntimeError), places.reserve(12):
        raise RuntimeError
    with places.reserve(12):
        assert places.taken == 12
    assert places.taken == 0


def test_more_than_there_will_ever_be_is_wrong_in_itself() -> None:
    with pytest.raises(InvalidArgument, match=r"up to 12 pictures \(`queue_size`\), this one has 13: send them"), \
            Capacity(12).reserve(13):
        pass


def test_whoever_is_sent_away_is_told_how_long_the_places_take_to_become_free() -> None:
    places = Capacity(10)
    with places.reserve(10):
        for _ in range(5):  # two places become free in 0.1 s: all of them in half a second
            places.taken -= 2
            with places.reserve(2):
                time.sleep(0.1)
            places.taken += 2
        told = {refused(places).retry_after for _ in range(20)}
    assert len(told) > 10  # so that not all come back at once
    assert all(after is not None and 0.2 < after < 0.7 for after in told)


def test_as_long_as_nobody_has_left_it_takes_at_least_as_long_as_it_has_taken() -> None:
    places = Capacity(10)
    with places.reserve(10):
        time.sleep(0.3)
        assert 0.15 <= (refused(places).retry_after or 0) < 1


def test_idle_time_is_not_taken_for_slowness() -> None:
    places = Capacity(10)
    for _ in range(2):
        with places.reserve(1):
            time.sleep(0.01)
        time.sleep(0.5)
    with places.reserve(10):
        assert (refused(places).retry_after or 0) < 0.3


def test_nobody_is_sent_away_for_longer_than_half_a_minute() -> None:
    places = Capacity(10_000)
    with places.reserve(1):
        time.sleep(0.02)
    with places.reserve(10_000):
        assert LONGEST_RETRY / 2 < (refused(places).retry_after or 0) <= LONGEST_RETRY
