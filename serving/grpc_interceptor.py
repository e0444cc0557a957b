"""The request middleware around gRPC calls: StatusErrors become statuses."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, StatusError
from serving.request_context import RECEIVE_SECONDS, REQUEST_ID, RequestContext, current_request
from serving.request_middleware import IncomingRequest, RequestMiddleware
from serving.security.auth import group_of
from serving.security.tls import grpc_certificate_name

PUSHBACK = "grpc-retry-pushback-ms"
"""Trailing metadata that tells gRPC's retries how long to wait (gRFC A6)."""


class GrpcInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Wraps every call; health checks need no key and are neither limited, counted nor logged."""

    def __init__(self, middleware: RequestMiddleware) -> None:
        self._middleware = middleware

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        decode = _decoder(handler.request_deserializer)
        is_health = group_of(details.method) == "health"
        if handler.unary_unary is not None:
            # as if the request were a stream of one message: so the call is admitted, or not, before that is read
            async def unary(requests: AsyncIterator[Any], context: Any) -> Any:
                async with _aborting(context) if is_health else self._around(details.method, context):
                    return await handler.unary_unary(await _only(requests), context)

            return grpc.stream_unary_rpc_method_handler(unary, decode, handler.response_serializer)

        async def watch_health(requests: AsyncIterator[Any], context: Any) -> None:
            async with _aborting(context):
                await handler.unary_stream(await _only(requests), context)

        async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            async with self._around(details.method, context) as call:
                async for response in handler.stream_stream(self._rate_limited(requests, call.client), context):
                    yield response

        return grpc.stream_stream_rpc_method_handler(watch_health if is_health else stream, decode,
                                                     handler.response_serializer)

    @contextlib.asynccontextmanager
    async def _around(self, method: str, context: Any) -> AsyncIterator[RequestContext]:
        """The middleware around the block; what is raised becomes the caller's status."""
        async with _aborting(context):
            with self._middleware.around(_incoming(method, context)) as call:
                context.set_trailing_metadata(((REQUEST_ID, call.id),))
                yield call

    async def _rate_limited(self, requests: AsyncIterator[Any], client: str) -> AsyncIterator[Any]:
        """The requests of a stream, read no faster than the client may send: flow control then slows it down."""
        first = True
        async for request in requests:
            while not first:  # the first was counted when the stream was admitted
                try:
                    self._middleware.limits.take(client)
                    break
                except ResourceExhausted as error:
                    await asyncio.sleep(error.retry_after or 1)
            first = False
            yield request


def _decoder(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """`decode`, raising InvalidArgument: gRPC turns other errors into UNKNOWN, as if the server had failed."""
    def checked(content: bytes) -> Any:
        try:
            return decode(content)
        except DecodeError as error:
            raise InvalidArgument(f"a message of {len(content)} bytes cannot be read: {error}") from None

    return checked


async def _only(requests: AsyncIterator[Any]) -> Any:
    """The message of a unary call; StatusError if none comes."""
    messages: Any = aiter(requests)
    try:
        async with asyncio.timeout(RECEIVE_SECONDS):
            return await anext(messages)
    except StopAsyncIteration:
        raise InvalidArgument("the call has no message") from None
    except TimeoutError:
        raise DeadlineExceeded(f"the call's message did not arrive within {RECEIVE_SECONDS:g} s") from None
    finally:
        await messages.aclose()  # or it keeps the message in a circle of references, until Python looks for those


def _incoming(method: str, context: Any) -> IncomingRequest:
    remaining = context.time_remaining()
    deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
    return IncomingRequest(method, "GRPC", tuple(context.invocation_metadata() or ()), context.peer(),
                           grpc_certificate_name(context.auth_context()), deadline)


@contextlib.asynccontextmanager
async def _aborting(context: Any) -> AsyncIterator[None]:
    """A StatusError raised in the block becomes the status that the caller gets."""
    try:
        yield
    except StatusError as error:
        request = current_request.get(None)  # health checks have none
        metadata = [] if request is None else [(REQUEST_ID, request.id)]
        if error.retry_after_ms is not None:
            metadata.append((PUSHBACK, str(error.retry_after_ms)))
        for raised in filter(None, (error, error.__context__)):  # gRPC keeps it, and its frames the message
            traceback.clear_frames(raised.__traceback__)
        await context.abort(error.status, str(error), tuple(metadata))
