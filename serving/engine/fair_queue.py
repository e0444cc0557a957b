"""A fair queue: clients take turns, and so do the requests of one client; a request keeps its order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items by client and request. A request with a hundred images delays another's single one by one place only."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, OrderedDict[str, deque[Item]]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        """All items, in no order that matters."""
        return (item for requests in self._clients.values() for items in requests.values() for item in items)

    def add(self, client: str, request: str, item: Item) -> None:
        """Appends an item to those of its request."""
        self._clients.setdefault(client, OrderedDict()).setdefault(request, deque()).append(item)
        self._length += 1

    def take(self) -> Item:
        """The next item; IndexError if there is none."""
        if not self._clients:
            raise IndexError("no item waits")
        client, requests = next(iter(self._clients.items()))
        request, items = next(iter(requests.items()))
        item = items.popleft()
        self._length -= 1
        if items:
            requests.move_to_end(request)
        else:
            del requests[request]
        if requests:
            self._clients.move_to_end(client)
        else:
            del self._clients[client]
        return item

    def remove(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Takes out every item that is unwanted, and returns them."""
        removed: list[Item] = []
        for client, requests in list(self._clients.items()):
            for request, items in list(requests.items()):
                kept: deque[Item] = deque()
                for item in items:
                    (removed if unwanted(item) else kept).append(item)
                if kept:
                    requests[request] = kept
                else:
                    del requests[request]
            if not requests:
                del self._clients[client]
        self._length -= len(removed)
        return removed
