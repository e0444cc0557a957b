"""A queue that is fair: clients take turns, and so do the calls of one client; a call is served in its order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items by client and call. A call with a hundred pictures delays another's single one by one place, not by all."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, OrderedDict[str, deque[Item]]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        """All items, in no order that matters."""
        return (item for calls in self._clients.values() for items in calls.values() for item in items)

    def add(self, client: str, call: str, item: Item) -> None:
        """Puts an item behind those of its call."""
        self._clients.setdefault(client, OrderedDict()).setdefault(call, deque()).append(item)
        self._length += 1

    def take(self) -> Item:
        """The next item; IndexError if there is none."""
        if not self._clients:
            raise IndexError("no item waits")
        client, calls = next(iter(self._clients.items()))
        call, items = next(iter(calls.items()))
        item = items.popleft()
        self._length -= 1
        if items:
            calls.move_to_end(call)
        else:
            del calls[call]
        if calls:
            self._clients.move_to_end(client)
        else:
            del self._clients[client]
        return item

    def remove(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Takes out every item that is unwanted, and returns them."""
        removed: list[Item] = []
        for client, calls in list(self._clients.items()):
            for call, items in list(calls.items()):
                kept: deque[Item] = deque()
                for item in items:
                    (removed if unwanted(item) else kept).append(item)
                if kept:
                    calls[call] = kept
                else:
                    del calls[call]
            if not calls:
                del self._clients[client]
        self._length -= len(removed)
        return removed
