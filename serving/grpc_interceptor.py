"""gRPC calls on their way through the reception: refusals become statuses, and stack traces stay in the log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, StatusError
from serving.request_context import RequestContext, current_request
from serving.request_middleware import FAILED, RECEIVE_SECONDS, REQUEST_ID, IncomingRequest, RequestMiddleware
from serving.security.tls import grpc_certificate_name

HEALTH = "/grpc.health."
PUSHBACK = "grpc-retry-pushback-ms"
"""Trailing metadata by which gRPC's retries wait as long as they are told (gRFC A6)."""


class GrpcInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Stands around every call; those of health checks are let in by anybody, unseen."""

    def __init__(self, reception: RequestMiddleware) -> None:
        self._reception = reception

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Wraps the handler of a call."""
        handler = await continuation(details)
        if handler is None:
            return None
        decode = _decoder(handler.request_deserializer)
        if details.method.startswith(HEALTH):
            return _health(handler, decode)
        if handler.unary_unary is not None:
            # as if the request were a stream of one message: so the call is let in, or not, before that is read
            async def call(requests: AsyncIterator[Any], context: Any) -> Any:
                return await self._unary(handler.unary_unary, details.method, requests, context)

            return grpc.stream_unary_rpc_method_handler(call, decode, handler.response_serializer)

        async def stream(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            async for response in self._stream(handler.stream_stream, details.method, requests, context):
                yield response

        return grpc.stream_stream_rpc_method_handler(stream, decode, handler.response_serializer)

    async def _unary(self, method: Callable[[Any, Any], Awaitable[Any]], name: str, requests: AsyncIterator[Any],
                     context: Any) -> Any:
        async with self._let_in(name, context):
            return await method(await _only(requests), context)

    async def _stream(self, method: Callable[[Any, Any], AsyncIterator[Any]], name: str, requests: AsyncIterator[Any],
                      context: Any) -> AsyncIterator[Any]:
        async with self._let_in(name, context) as call:
            async for response in method(self._at_its_rate(requests, call.client), context):
                yield response

    @contextlib.asynccontextmanager
    async def _let_in(self, method: str, context: Any) -> AsyncIterator[RequestContext]:
        """Around the answering of a call: through the reception; what is raised becomes the caller's status."""
        async with _refusing(context):
            try:
                with self._reception.around(_arrival(method, context)) as call:
                    context.set_trailing_metadata(((REQUEST_ID, call.id),))
                    yield call
            except StatusError:
                raise
            except Exception:
                await context.abort(grpc.StatusCode.INTERNAL, FAILED, context.trailing_metadata())

    async def _at_its_rate(self, requests: AsyncIterator[Any], client: str) -> AsyncIterator[Any]:
        """The requests of a stream, read no faster than the client may ask: flow control then slows it down."""
        first = True
        async for request in requests:
            while not first:
                try:
                    self._reception.limits.take(client)
                    break
                except ResourceExhausted as overloaded:
                    await asyncio.sleep(overloaded.retry_after or 1)
            first = False  # its place was taken when the stream was let in
            yield request


def _health(handler: Any, decode: Callable[[bytes], Any]) -> Any:
    """A method of grpc.health.v1, with the messages of unary calls read as those of all others are."""
    async def check(requests: AsyncIterator[Any], context: Any) -> Any:
        async with _refusing(context):
            return await handler.unary_unary(await _only(requests), context)

    async def watch(requests: AsyncIterator[Any], context: Any) -> None:
        async with _refusing(context):
            await handler.unary_stream(await _only(requests), context)

    if handler.unary_unary is not None:
        return grpc.stream_unary_rpc_method_handler(check, decode, handler.response_serializer)
    return grpc.stream_stream_rpc_method_handler(watch, decode, handler.response_serializer)


def _decoder(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """`decode`, raising InvalidArgument: what gRPC makes of other errors is UNKNOWN, as if the server had failed."""
    def decoded(content: bytes) -> Any:
        try:
            return decode(content)
        except DecodeError as error:
            raise InvalidArgument(f"a message of {len(content)} bytes cannot be read: {error}") from None

    return decoded


async def _only(requests: AsyncIterator[Any]) -> Any:
    """The message of a unary call; StatusError if none comes."""
    try:
        async with asyncio.timeout(RECEIVE_SECONDS):
            return await anext(requests)
    except StopAsyncIteration:
        raise InvalidArgument("the call has no message") from None
    except TimeoutError:
        raise DeadlineExceeded(f"the call's message did not arrive within {RECEIVE_SECONDS:g} s") from None


def _arrival(method: str, context: Any) -> IncomingRequest:
    remaining = context.time_remaining()
    deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
    return IncomingRequest(method, "GRPC", tuple(context.invocation_metadata() or ()), context.peer(),
                   grpc_certificate_name(context.auth_context()), deadline)


@contextlib.asynccontextmanager
async def _refusing(context: Any) -> AsyncIterator[None]:
    """A StatusError raised in the block becomes the status that the caller gets."""
    try:
        yield
    except StatusError as refusal:
        metadata = tuple(context.trailing_metadata() or ())
        if not metadata:  # it was not even let in
            with contextlib.suppress(LookupError):  # health checks are no calls
                metadata = ((REQUEST_ID, current_request().id),)
        if refusal.retry_after_ms is not None:
            metadata += ((PUSHBACK, str(refusal.retry_after_ms)),)
        await context.abort(refusal.status, str(refusal), metadata)
