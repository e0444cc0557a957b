"""A replica: a server without a gRPC port of its own, to which Ray's ingress brings the calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import grpc
from aiohttp import ClientSession
from google.protobuf.empty_pb2 import Empty
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from yarl import URL

from serving.config.config import ServeConfig
from serving.core import Core
from serving.errors import ServeError
from serving.grpc.services import add_services
from serving.grpc_interceptor import GrpcInterceptor
from serving.listeners import HttpListener, open_http, raise_file_limit
from serving.ray.ingress import METHODS, RawMessage
from serving.shutdown import StopEvent
from serving.telemetry.logs import Logs

PORTS = 100
"""How many replicas of one machine find a port each."""
OWN_HEADERS = {"connection", "expect", "transfer-encoding"}
"""Headers that are about one connection."""
RAYS_HEADERS = {b"date", b"x-request-id"}
"""Headers of an answer that Ray's ingress adds."""
AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp adds where the caller sent none."""


class Aborted(Exception):
    """A call that is answered with a status; its context has it."""


class CallContext:
    """What the services need of gRPC's ServicerContext, from Ray's.

    Ray does not pass the deadline on, but cancels the call when it has passed.
    """

    def __init__(self, context: Any) -> None:
        """`context`: a RayServegRPCContext."""
        self._context = context
        self.invocation_metadata, self.peer, self.auth_context = (
            context.invocation_metadata, context.peer, context.auth_context)
        self.callbacks: list[Callable[[Any], object]] = []
        self.add_done_callback = self.callbacks.append

    def time_remaining(self) -> None:
        """Unknown."""

    def set_trailing_metadata(self, metadata: Any) -> None:
        self._context.set_trailing_metadata(list(metadata))

    async def abort(self, code: grpc.StatusCode, details: str, metadata: Any = ()) -> None:
        self._context.set_code(code)
        self._context.set_details(details)
        self.set_trailing_metadata(metadata)
        raise Aborted(details)


class Handlers:
    """What `add_services` sees of a server: collects methods and finds them, within the middleware."""

    def __init__(self, interceptor: GrpcInterceptor) -> None:
        self._interceptor = interceptor
        self._handlers: list[grpc.GenericRpcHandler] = []
        self.add_generic_rpc_handlers = self._handlers.extend

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """They are among the generic ones too."""

    async def find(self, method: str) -> Any:
        """The handler of a method by its full name."""
        async def found(details: Any) -> Any:
            return next(filter(None, (handler.service(details) for handler in self._handlers)))

        return await self._interceptor.intercept_service(found, SimpleNamespace(method=method))


class Replica:
    """A deployment of Ray Serve: its methods have the names of gRPC's methods.

    It has an HTTP port of its own, for Prometheus and for the requests that Ray's HTTP ingress brings.
    """

    async def __init__(self, config: ServeConfig) -> None:  # type: ignore[misc]  # Ray awaits it
        """Returns when the models are loaded. Raises ServeError if they cannot be."""
        raise_file_limit()
        self._config, self._core = config, Core(config, Logs(config.observability))
        self._handlers = Handlers(self._core.interceptor)
        add_services(self._handlers, self._core.models, config, StopEvent())
        await self._core.models.start()
        self._core.models.open(True)
        self._watching = asyncio.create_task(self._core.models.watch(config.models.poll_seconds))
        self._http = await self._open_http()
        self._session = ClientSession(auto_decompress=False, skip_auto_headers=AUTOMATIC)

    def __serve_build_asgi_app__(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self._forward, methods=["GET", "POST", "OPTIONS"])])

    async def answer(self, message: RawMessage, context: Any) -> Any:
        """The response of a method that is no stream; of one that is refused an empty one, and `context` has why."""
        call = CallContext(context)

        async def messages() -> AsyncIterator[bytes]:
            yield message.content

        try:
            await self._check_size(message, call)
            return await (await self._handlers.find(message.method)).stream_unary(messages(), call)
        except Aborted:  # not raised to Ray, which would lose the trailing metadata, and with it how long to wait
            return Empty()

    async def answer_stream(self, method: str, requests: AsyncIterator[RawMessage], context: Any) -> AsyncIterator[Any]:
        """The responses of a stream."""
        call = CallContext(context)

        async def messages() -> AsyncIterator[bytes]:
            async for message in requests:
                await self._check_size(message, call)
                yield message.content

        try:
            async for response in (await self._handlers.find(method)).stream_stream(messages(), call):
                yield response
        finally:
            for callback in call.callbacks:
                callback(call)

    async def _check_size(self, message: RawMessage, call: CallContext) -> None:
        if len(message.content) > self._config.max_message_bytes:  # in gRPC's own words
            await call.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max ("
                             f"{len(message.content)} vs. {self._config.max_message_bytes})")

    async def _open_http(self) -> HttpListener:
        first = self._config.ray.replica_port
        for port in range(first, first + PORTS):
            ports = replace(self._config.ports, http_port=port)
            try:
                return await open_http(replace(self._config, ports=ports), self._core.http_application(), None)
            except ServeError as error:  # another replica's
                refused = error
        raise refused

    async def _forward(self, request: Request) -> Response:
        """Sends a request to this replica's own HTTP port."""
        scope = request.scope
        path = scope["raw_path"].decode("latin-1").removeprefix(scope.get("root_path", "")) or "/"
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        headers = [(name, value) for name, value in request.headers.items() if name not in OWN_HEADERS]
        body = request.stream() if {"content-length", "transfer-encoding"} & set(request.headers) else None
        async with self._session.request(request.method, URL(f"http://{self._http.address}{path}{query}", encoded=True),
                                         headers=headers, data=body, allow_redirects=False) as answer:
            response = Response(await answer.read(), answer.status)
            response.raw_headers = [(name.lower(), value) for name, value in answer.raw_headers
                                    if name.lower() not in RAYS_HEADERS]
            return response


def _method(full_name: str) -> Any:
    """What Ray calls for an RPC."""
    async def unary(self: Replica, message: RawMessage, grpc_context: Any) -> Any:
        return await self.answer(message, grpc_context)

    async def stream(self: Replica, requests: AsyncIterator[RawMessage], grpc_context: Any) -> AsyncIterator[Any]:
        async for response in self.answer_stream(full_name, requests, grpc_context):
            yield response

    return stream if METHODS[full_name] else unary


for _name in METHODS:
    setattr(Replica, _name.rpartition("/")[2], _method(_name))
