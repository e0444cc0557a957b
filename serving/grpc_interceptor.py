"""The request middleware around gRPC calls: StatusErrors become statuses."""

from __future__ import annotations

import asyncio
import contextlib
import re
import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving.arrivals import GRPC_COST, Arrival
from serving.errors import InvalidArgument, ResourceExhausted, StatusError
from serving.request_context import REQUEST_ID, RequestContext, current_request
from serving.request_middleware import IncomingRequest, RequestMiddleware
from serving.security.auth import group_of
from serving.security.sanitize import host_of
from serving.security.tls import grpc_certificate_name

Decode = Callable[[bytes], Any]
MOST_PARTS = 1 << 18
"""Fields of a message and of the messages in it: an empty one takes two bytes as sent, and up to 90 as decoded."""
VARINT = re.compile(rb"[\x80-\xff]{0,9}[\x00-\x7f]")


class GrpcInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Wraps every call; health checks need no key and are neither limited, counted nor logged."""

    def __init__(self, middleware: RequestMiddleware, stream_idle_seconds: float) -> None:
        self._middleware, self._arrivals = middleware, middleware.arrivals
        self._stream_idle_seconds = stream_idle_seconds
        self._handlers: dict[str, Any] = {}
        """By method."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        if details.method not in self._handlers:
            if (handler := await continuation(details)) is None:
                return None
            self._handlers[details.method] = self._wrapped(handler, details.method)
        return self._handlers[details.method]

    def _wrapped(self, handler: Any, method: str) -> Any:
        decode = handler.request_deserializer
        if handler.unary_unary is not None:
            # as if the request were a stream of one message: so the call is admitted, or not, before that is read
            async def unary(requests: AsyncIterator[bytes], context: Any) -> Any:
                async with self._around(method, context) as call:
                    return await handler.unary_unary(await self._only(requests, decode, context, call), context)

            return grpc.stream_unary_rpc_method_handler(unary, None, handler.response_serializer)

        async def watch_health(requests: AsyncIterator[bytes], context: Any) -> None:
            async with self._around(method, context) as call:
                request = await self._only(requests, decode, context, call)
                async with self._arrivals.wait(host_of(context.peer()), seconds=None, in_flight=False, is_stream=True):
                    await handler.unary_stream(request, context)

        async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
            async with self._around(method, context, is_stream=True) as call:
                open_stream = OpenStream(self._middleware, call, context.peer(), self._stream_idle_seconds)
                async for response in handler.stream_stream(open_stream.messages(requests, decode), context):
                    yield response
                    open_stream.answered()

        return grpc.stream_stream_rpc_method_handler(stream if handler.unary_stream is None else watch_health, None,
                                                     handler.response_serializer)

    async def _only(self, requests: AsyncIterator[bytes], decode: Decode, context: Any,
                    call: RequestContext | None) -> Any:
        """The message of a unary call, None for those of health; StatusError if none comes."""
        peer = context.peer()
        async with self._arrivals.wait(host_of(peer) if call is None else call.client, peer,
                                       in_flight=call is not None and call.counted) as arrival:
            messages: Any = aiter(requests)
            try:
                content = await anext(messages, None)
            finally:
                await messages.aclose()  # or it keeps the message in a circle of references, until Python looks for it
            if content is None:
                raise InvalidArgument("the call has no message")
            arrival.whole(len(content))
        if call is not None:
            self._middleware.arrived(call, GRPC_COST * len(content))
        return _decoded(decode, content)

    @contextlib.asynccontextmanager
    async def _around(self, method: str, context: Any, is_stream: bool = False) -> AsyncIterator[Any]:
        """The middleware around the block, except of health checks, which get None for the RequestContext.

        A StatusError that is raised becomes the caller's status.
        """
        try:
            if group_of(method) == "health":
                yield None
                return
            remaining = context.time_remaining()
            deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
            incoming = IncomingRequest(method, "GRPC", tuple(context.invocation_metadata() or ()), context.peer(),
                                       grpc_certificate_name(context.auth_context()), deadline)
            with self._middleware.around(incoming, is_stream) as call:
                context.set_trailing_metadata([(REQUEST_ID, call.id)])
                yield call
        except StatusError as error:
            request = current_request.get(None)  # health checks have none
            metadata = [] if request is None else [(REQUEST_ID, request.id)]
            if error.retry_after_ms is not None:
                metadata.append(("grpc-retry-pushback-ms", str(error.retry_after_ms)))  # for gRPC's retries (gRFC A6)
            for raised in filter(None, (error, error.__context__)):  # gRPC keeps it, and its frames the message
                traceback.clear_frames(raised.__traceback__)
            try:
                await context.abort(error.status, str(error), tuple(metadata))
            except grpc.aio.InternalError:  # gRPC itself has ended the call, as of a message that unpacks to too much
                raise asyncio.CancelledError from None


class OpenStream:
    """What a stream has sent, and what of it is answered; each request has one response."""

    def __init__(self, middleware: RequestMiddleware, call: RequestContext, peer: str, idle_seconds: float) -> None:
        self._arrivals, self._limits = middleware.arrivals, middleware.limits
        self._call, self._peer, self._idle_seconds = call, peer, idle_seconds
        self._unanswered: deque[int] = deque()
        """Bytes of memory of each request."""
        self._arrival: Arrival | None = None

    async def messages(self, requests: AsyncIterator[bytes], decode: Decode) -> AsyncIterator[Any]:
        """The messages, read no faster than the client may send and memory allows: flow control then slows it down."""
        first = True
        while True:
            while self._unanswered and self._arrivals.held >= self._arrivals.budget:
                await asyncio.sleep(0.05)
            async with self._arrivals.wait(self._call.client, self._peer, self._idle_seconds,
                                           is_stream=True) as self._arrival:
                if self._unanswered:
                    self._arrival.turn(None)
                try:
                    content = await anext(requests, None)
                    if content is None:
                        return
                    self._arrival.whole(len(content))
                finally:
                    self._arrival = None
            while not first:  # the first was counted when the stream was admitted
                try:
                    self._limits.take(self._call.client)
                    break
                except ResourceExhausted as error:
                    await asyncio.sleep(error.retry_after or 1)
            first = False
            self._unanswered.append(GRPC_COST * len(content))
            self._arrivals.hold(self._call, self._unanswered[-1], force=True)
            message = _decoded(decode, content)
            del content
            yield message
            del message  # or the last one would stay while the next is awaited

    def answered(self) -> None:
        """A response was sent; for which of the requests makes no difference to the memory in the long run."""
        if self._unanswered:
            self._arrivals.release(self._call, self._unanswered.popleft())
        if self._arrival is not None and not self._unanswered:
            self._arrival.turn(self._idle_seconds)


def _decoded(decode: Decode, content: bytes) -> Any:
    """The message. Not decoded by gRPC, which answers a broken one with UNKNOWN, as if the server had failed."""
    if len(content) > 2 * MOST_PARTS:
        _check_parts(content, getattr(getattr(decode, "__self__", None), "DESCRIPTOR", None))
    try:
        return decode(content)
    except DecodeError as error:
        raise InvalidArgument(f"a message of {len(content)} bytes cannot be read: {error}") from None


def _check_parts(content: bytes, descriptor: Any) -> None:
    """InvalidArgument for a message of more than MOST_PARTS; what is broken is left to its decoder."""
    parts, open_messages = 0, [] if descriptor is None else [(0, len(content), descriptor)]
    while open_messages:
        at, end, descriptor = open_messages.pop()
        with contextlib.suppress(IndexError):
            while at < end:
                parts += 1
                if parts > MOST_PARTS:
                    raise InvalidArgument(f"a message of {len(content)} bytes has more than {MOST_PARTS} fields: send "
                                          "fewer pictures in one call, or numbers packed")
                key, at = _varint(content, at)
                size = {1: 8, 5: 4}.get(key & 7, 0)
                if key & 7 in (0, 2):
                    number, at = _varint(content, at)
                    size = number if key & 7 else 0
                field = descriptor.fields_by_number.get(key >> 3)
                if key & 7 == 2 and field is not None and field.message_type is not None:
                    open_messages.append((at, at + size, field.message_type))
                at += size


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends (https://protobuf.dev/programming-guides/encoding); IndexError where there is none."""
    if (match := VARINT.match(content, at)) is None:
        raise IndexError
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(match[0])), match.end()
