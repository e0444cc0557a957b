"""Client and AsyncClient behind one face, so that every sentence is tested of both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any

from voc_cls.client import AsyncClient, Client, ModelInfo, Prediction

KINDS = ("blocking", "asynchronous")
Connect = Callable[..., contextlib.AbstractContextManager[Any]]


class InLoop:
    """An AsyncClient, called from ordinary code; its event loop runs while a call does."""

    def __init__(self, address: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = self._run(self._made(address, options))

    def __enter__(self) -> InLoop:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._client.close())
        self._runner.close()

    def classify(self, *args: Any, **options: Any) -> list[Prediction]:
        found: list[Prediction] = self._run(self._client.classify(*args, **options))
        return found

    def model(self, *args: Any, **options: Any) -> ModelInfo:
        info: ModelInfo = self._run(self._client.model(*args, **options))
        return info

    def classify_stream(self, pictures: Iterable[Any], **options: Any) -> Iterator[tuple[int, Prediction]]:
        answers = self._client.classify_stream(in_a_thread(pictures), **options)
        return self._each(answers)

    def _each(self, answers: AsyncIterator[tuple[int, Prediction]]) -> Iterator[tuple[int, Prediction]]:
        async def following() -> tuple[int, Prediction] | None:
            return await anext(answers, None)

        try:
            while (answer := self._run(following())) is not None:
                yield answer
        finally:
            self._run(answers.aclose())  # type: ignore[attr-defined]

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    @staticmethod
    async def _made(address: str, options: dict[str, Any]) -> AsyncClient:
        return AsyncClient(address, **options)


async def in_a_thread(pictures: Iterable[Any]) -> AsyncIterator[Any]:
    """What an asynchronous source is; an ordinary one that waits would hold up the event loop."""
    each = iter(pictures)
    nothing = object()
    while (picture := await asyncio.to_thread(next, each, nothing)) is not nothing:
        yield picture


def connect(kind: str) -> Connect:
    """Client, or what looks like one."""
    return Client if kind == "blocking" else InLoop
