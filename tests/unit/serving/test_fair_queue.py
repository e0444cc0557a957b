"""Clients take turns, and so do the calls of one client."""

from __future__ import annotations

import pytest

from serving.engine.batcher import FairQueue


def filled(*items: str) -> FairQueue[str]:
    """Items such as "anna/1/c": client, call and what it is."""
    turns: FairQueue[str] = FairQueue()
    for item in items:
        client, call, _ = item.split("/")
        turns.add(client, call, item)
    return turns


def taken(turns: FairQueue[str]) -> list[str]:
    return [turns.take() for _ in range(len(turns))]


def test_the_pictures_of_one_call_keep_their_order() -> None:
    items = ["anna/1/a", "anna/1/b", "anna/1/c"]
    assert taken(filled(*items)) == items


def test_calls_of_one_client_take_turns() -> None:
    turns = filled("anna/1/a", "anna/1/b", "anna/1/c", "anna/2/d", "anna/3/e")
    assert taken(turns) == ["anna/1/a", "anna/2/d", "anna/3/e", "anna/1/b", "anna/1/c"]


def test_a_client_with_many_calls_has_no_more_turns_than_one_with_a_single_call() -> None:
    turns = filled(*[f"anna/{call}/x" for call in range(4)], "ben/1/a", "ben/1/b")
    assert taken(turns) == ["anna/0/x", "ben/1/a", "anna/1/x", "ben/1/b", "anna/2/x", "anna/3/x"]


def test_whoever_comes_while_others_take_turns_is_next_after_those_who_wait() -> None:
    turns = filled("anna/1/a", "anna/1/b", "anna/1/c")
    assert turns.take() == "anna/1/a"
    turns.add("ben", "1", "ben/1/a")
    assert taken(turns) == ["anna/1/b", "ben/1/a", "anna/1/c"]


def test_what_is_removed_leaves_the_others_in_their_turns() -> None:
    turns = filled("anna/1/a", "anna/1/b", "ben/1/a", "ben/2/a")
    assert sorted(turns.remove(lambda item: item.endswith("/a") and item != "ben/2/a")) == ["anna/1/a", "ben/1/a"]
    assert (len(turns), sorted(turns)) == (2, ["anna/1/b", "ben/2/a"])
    assert taken(turns) == ["anna/1/b", "ben/2/a"]


def test_nothing_is_taken_from_nobody() -> None:
    turns = filled("anna/1/a")
    turns.take()
    assert (len(turns), list(turns)) == (0, [])
    with pytest.raises(IndexError):
        turns.take()
