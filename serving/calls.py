"""What happens around every call: it is counted, refusals become statuses, and stack traces stay in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from serving.errors import Refusal

log = logging.getLogger(__name__)

GRPC_SERVICES = "/grpc."
"""Health and reflection: not counted, and they set their own statuses."""


def deadline_of(context: Any) -> float | None:
    """A call's deadline in the event loop's time; None if its caller set none."""
    remaining = context.time_remaining()
    return None if remaining is None else asyncio.get_running_loop().time() + remaining


class Calls(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Stands around the unary calls of the server's own services."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.answered = 0
        self.failed = 0
        """Refused, cancelled, or broken by an error of the server's own."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Wraps the handler of a call."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None or details.method.startswith(GRPC_SERVICES):
            return handler

        async def call(request: Any, context: Any) -> Any:
            return await self._call(handler.unary_unary, details.method, request, context)

        return grpc.unary_unary_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)

    async def _call(self, method: Callable[[Any, Any], Awaitable[Any]], name: str, request: Any, context: Any) -> Any:
        self.in_flight += 1
        answered = False
        try:
            response = await method(request, context)
            answered = True
            return response
        except Refusal as refusal:
            await context.abort(refusal.status, str(refusal))
        except Exception:
            log.exception("%s failed", name)
            await context.abort(grpc.StatusCode.INTERNAL, "the server failed on this call; its log says why")
        finally:
            self.in_flight -= 1
            self.answered += answered
            self.failed += not answered
