"""The message of a call is let go at its end: Python's search for circles of references may come gigabytes later."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from serving.arrivals import Arrivals
from serving.config.config import ObservabilityConfig
from serving.errors import InvalidArgument
from serving.grpc_interceptor import GrpcInterceptor
from serving.request_middleware import RequestMiddleware
from serving.security.auth import Authenticator
from serving.security.limits import ClientLimits
from serving.telemetry.logs import Logs
from serving.telemetry.metrics import Metrics


class Message:
    """Of any size."""


def refuse(message: Message) -> None:  # noqa: ARG001
    raise InvalidArgument("not so")


def fail(message: Message) -> None:  # noqa: ARG001
    raise ValueError("an error of the server")


def answer(message: Message) -> None:
    """Does nothing with it."""


async def alive_after_a_call(work: Callable[[Message], None]) -> tuple[grpc.StatusCode, bool]:
    """Status of a call whose handler does `work` on a thread, and whether its message is still in memory."""
    messages: list[Any] = []

    def decode(content: bytes) -> Message:  # noqa: ARG001
        message = Message()
        messages.append(weakref.ref(message))
        return message

    async def handle(message: Message, context: Any) -> bytes:  # noqa: ARG001
        await asyncio.get_running_loop().run_in_executor(None, work, message)
        return b""

    logs = Logs(ObservabilityConfig())
    middleware = RequestMiddleware(Authenticator(None), ClientLimits(0, 20, 0), Arrivals(2**20), Metrics([]),
                                   logs, None, 10)
    server = grpc.aio.server(interceptors=[GrpcInterceptor(middleware, 300)])
    method = grpc.unary_unary_rpc_method_handler(handle, decode, bytes)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("voc_cls.v1.Classifier",
                                                                          {"Classify": method})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/voc_cls.v1.Classifier/Classify")(b"")
            status = await call.code()
            await asyncio.sleep(0.2)
            return status, messages[0]() is not None
    finally:
        await server.stop(None)
        logs.close()


@pytest.mark.parametrize(("work", "status"), [(answer, "OK"), (refuse, "INVALID_ARGUMENT"), (fail, "INTERNAL")])
def test_the_message_of_a_call_is_let_go_at_its_end(work: Callable[[Message], None], status: str) -> None:
    gc.disable()
    try:
        found, alive = asyncio.run(alive_after_a_call(work))
    finally:
        gc.enable()
    assert (found.name, alive) == (status, False)
