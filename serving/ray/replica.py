"""A replica: a server without a gRPC port of its own, to which Ray's ingress brings the calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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
from serving.grpc.services import GenericHandlers, add_services
from serving.listeners import HttpListener, open_http
from serving.ray.ingress import METHODS, RawMessage
from serving.rest.json import PayloadTooLarge
from serving.shutdown import StopEvent
from serving.telemetry.logs import Logs

PORTS = 100
"""So many replicas of one machine find a port each."""
NOT_SENT_ON = {"connection", "expect", "transfer-encoding", "date", "x-request-id"}
"""Headers that are about one connection, and those that Ray's ingress adds to an answer."""


class CallContext:
    """Ray's context of a call, with what the services need beside it of gRPC's ServicerContext.

    Ray does not pass the deadline on, but cancels the call when it has passed.
    """

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def time_remaining(self) -> None:
        """Unknown."""

    def add_done_callback(self, callback: Any) -> None:
        """Not needed: a stream that ends closes its generators."""

    async def abort(self, code: grpc.StatusCode, details: str, metadata: Any = ()) -> None:
        self._context.set_code(code)
        self._context.set_details(details)
        self._context.set_trailing_metadata(list(metadata))
        raise grpc.aio.AbortError(details)


class Replica:
    """A deployment of Ray Serve: it has the methods of all gRPC services, by their names.

    Its HTTP port is for Prometheus, and for the requests that Ray's HTTP ingress brings.
    """

    async def __init__(self, config: ServeConfig) -> None:  # type: ignore[misc]  # Ray awaits it
        """Returns when the models are loaded. Raises ServeError if they cannot be."""
        self._config, self._core = config, Core(config, Logs(config.observability))
        self._handlers: list[grpc.GenericRpcHandler] = []
        add_services(GenericHandlers(self._handlers.extend), self._core.models, config, StopEvent())
        await self._core.models.start()
        self._core.models.open(True)
        self._watching = asyncio.create_task(self._core.models.watch(config.models.poll_seconds))
        self._http = await self._open_http()
        self._session = ClientSession(auto_decompress=False, skip_auto_headers=(
            "Accept", "Accept-Encoding", "Content-Type", "User-Agent"))

    def __serve_build_asgi_app__(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self._forward, methods=["GET", "POST", "OPTIONS"])])

    async def handler(self, method: str) -> Any:
        """The handler of a gRPC method, within the middleware."""
        async def found(details: Any) -> Any:
            return next(filter(None, (handler.service(details) for handler in self._handlers)))

        return await self._core.interceptor.intercept_service(found, SimpleNamespace(method=method))

    async def contents(self, messages: AsyncIterator[RawMessage]) -> AsyncIterator[bytes]:
        """The messages of a call; Ray's ingress takes any size."""
        async for message in messages:
            if len(message.content) > self._config.max_message_bytes:
                raise PayloadTooLarge(self._config.max_message_bytes)
            yield message.content

    async def _open_http(self) -> HttpListener:
        for number in range(PORTS):
            ports = replace(self._config.ports, http_port=self._config.ports.http_port + 1 + number)
            try:
                return await open_http(replace(self._config, ports=ports), self._core.http_application(), None)
            except ServeError as error:  # another replica's
                refused = error
        raise refused

    async def _forward(self, request: Request) -> Response:
        """Sends an HTTP request to this replica's own port."""
        scope = request.scope
        path = scope["raw_path"].decode("latin-1").removeprefix(scope.get("root_path", "")) or "/"
        url = URL(f"http://{self._http.address}{path}?{scope['query_string'].decode('latin-1')}", encoded=True)
        headers = [(name, value) for name, value in request.headers.items() if name not in NOT_SENT_ON]
        body = request.stream() if {"content-length", "transfer-encoding"} & set(request.headers) else None
        async with self._session.request(request.method, url, headers=headers, data=body,
                                         allow_redirects=False) as answer:
            response = Response(await answer.read(), answer.status)
            response.raw_headers = [(name.lower(), value) for name, value in answer.raw_headers
                                    if name.decode("latin-1").lower() not in NOT_SENT_ON]
            return response


def _method(full_name: str) -> Any:
    """What Ray calls for a gRPC method."""
    async def unary(self: Replica, message: RawMessage, grpc_context: Any) -> Any:
        async def messages() -> AsyncIterator[RawMessage]:
            yield message

        call, handler = CallContext(grpc_context), await self.handler(message.method)
        try:
            return await handler.stream_unary(self.contents(messages()), call)
        except grpc.aio.AbortError:  # raised to Ray it would lose the trailing metadata, and with it how long to wait
            return Empty()

    async def stream(self: Replica, messages: AsyncIterator[RawMessage], grpc_context: Any) -> AsyncIterator[Any]:
        call, handler = CallContext(grpc_context), await self.handler(full_name)
        async for response in handler.stream_stream(self.contents(messages), call):
            yield response

    return stream if METHODS[full_name] else unary


for _full_name in METHODS:
    setattr(Replica, _full_name.rpartition("/")[2], _method(_full_name))
