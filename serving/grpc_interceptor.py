"""The request middleware around gRPC calls: StatusErrors become statuses."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from serving.arrivals import GRPC_COST, Arrival
from serving.errors import InvalidArgument, ResourceExhausted, StatusError
from serving.request_context import REQUEST_ID, RequestContext, current_request
from serving.request_middleware import IncomingRequest, RequestMiddleware
from serving.security.auth import group_of
from serving.security.sanitize import host_of
from serving.security.tls import grpc_certificate_name

PUSHBACK = "grpc-retry-pushback-ms"
"""Trailing metadata that tells gRPC's retries how long to wait (gRFC A6)."""
ROOM_INTERVAL = 0.05
"""Seconds between two looks whether a stream may be read on."""


class Received(NamedTuple):
    """A message and its bytes on the wire, unpacked."""

    message: Any
    size: int


class GrpcInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Wraps every call; health checks need no key and are neither limited, counted nor logged."""

    def __init__(self, middleware: RequestMiddleware, stream_idle_seconds: float) -> None:
        self._middleware = middleware
        self._stream_idle_seconds = stream_idle_seconds

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        decode = _decoder(handler.request_deserializer)
        is_health = group_of(details.method) == "health"
        if handler.unary_unary is not None:
            # as if the request were a stream of one message: so the call is admitted, or not, before that is read
            async def unary(requests: AsyncIterator[Received], context: Any) -> Any:
                async with _aborting(context) if is_health else self._around(details.method, context) as call:
                    return await handler.unary_unary(await self._only(requests, context, call), context)

            return grpc.stream_unary_rpc_method_handler(unary, decode, handler.response_serializer)

        async def watch_health(requests: AsyncIterator[Received], context: Any) -> None:
            async with _aborting(context):
                request = await self._only(requests, context, None)
                async with self._middleware.arrivals.wait(host_of(context.peer()), seconds=None, in_flight=False,
                                                          is_stream=True):
                    await handler.unary_stream(request, context)

        async def stream(requests: AsyncIterator[Received], context: Any) -> AsyncIterator[Any]:
            async with self._around(details.method, context, is_stream=True) as call:
                open_stream = OpenStream(self._middleware, call, context.peer(), self._stream_idle_seconds)
                async for response in handler.stream_stream(open_stream.messages(requests), context):
                    yield response
                    open_stream.answered()

        return grpc.stream_stream_rpc_method_handler(watch_health if is_health else stream, decode,
                                                     handler.response_serializer)

    async def _only(self, requests: AsyncIterator[Received], context: Any, call: RequestContext | None) -> Any:
        """The message of a unary call, None for those of health; StatusError if none comes."""
        peer = context.peer()
        async with self._middleware.arrivals.wait(host_of(peer) if call is None else call.client, peer,
                                                  in_flight=call is not None and call.counted) as arrival:
            messages: Any = aiter(requests)
            try:
                received = await anext(messages, None)
            finally:
                await messages.aclose()  # or it keeps the message in a circle of references, until Python looks for it
            if received is None:
                raise InvalidArgument("the call has no message")
            self._middleware.arrivals.whole(arrival, received.size)
        if call is not None:
            self._middleware.arrived(call, GRPC_COST * received.size)
        return received.message

    @contextlib.asynccontextmanager
    async def _around(self, method: str, context: Any, is_stream: bool = False) -> AsyncIterator[RequestContext]:
        """The middleware around the block; what is raised becomes the caller's status."""
        async with _aborting(context):
            with self._middleware.around(_incoming(method, context), is_stream) as call:
                context.set_trailing_metadata(((REQUEST_ID, call.id),))
                yield call


class OpenStream:
    """What a stream has sent, and what of it is answered; each request has one response."""

    def __init__(self, middleware: RequestMiddleware, call: RequestContext, peer: str, idle_seconds: float) -> None:
        self._middleware, self._arrivals = middleware, middleware.arrivals
        self._call, self._peer, self._idle_seconds = call, peer, idle_seconds
        self._unanswered: deque[int] = deque()
        """Bytes of memory of each request."""
        self._arrival: Arrival | None = None

    async def messages(self, requests: AsyncIterator[Received]) -> AsyncIterator[Any]:
        """The messages, read no faster than the client may send and memory allows: flow control then slows it down."""
        first = True
        while True:
            while self._unanswered and self._arrivals.full:
                await asyncio.sleep(ROOM_INTERVAL)
            async with self._arrivals.wait(self._call.client, self._peer, self._idle_seconds,
                                           is_stream=True) as arrival:
                self._arrival = arrival
                if self._unanswered:
                    self._arrivals.turn(arrival, None)
                try:
                    received = await anext(requests, None)
                finally:
                    self._arrival = None
                if received is None:
                    return
                self._arrivals.whole(arrival, received.size)
            while not first:  # the first was counted when the stream was admitted
                try:
                    self._middleware.limits.take(self._call.client)
                    break
                except ResourceExhausted as error:
                    await asyncio.sleep(error.retry_after or 1)
            first = False
            self._unanswered.append(GRPC_COST * received.size)
            self._arrivals.hold(self._call, self._unanswered[-1], force=True)
            yield received.message
            del received  # or the last one would stay while the next is awaited

    def answered(self) -> None:
        """A response was sent; for which of the requests makes no difference to the memory in the long run."""
        if self._unanswered:
            self._arrivals.release(self._call, self._unanswered.popleft())
        if self._arrival is not None and not self._unanswered:
            self._arrivals.turn(self._arrival, self._idle_seconds)


def _decoder(decode: Callable[[bytes], Any]) -> Callable[[bytes], Received]:
    """`decode` and the size; InvalidArgument: gRPC turns other errors into UNKNOWN, as if the server had failed."""
    def checked(content: bytes) -> Received:
        try:
            return Received(decode(content), len(content))
        except DecodeError as error:
            raise InvalidArgument(f"a message of {len(content)} bytes cannot be read: {error}") from None

    return checked


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
