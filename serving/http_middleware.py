"""HTTP calls on their way through the reception, by the same rules as gRPC's."""

from __future__ import annotations

import re

from aiohttp import web
from aiohttp.typedefs import Handler

from serving.request_middleware import REQUEST_ID, IncomingRequest, RequestMiddleware
from serving.security.sanitize import printable
from serving.security.tls import http_certificate_name

HEALTH = "/healthz"
METRICS = ("/metrics", "/monitoring/prometheus/metrics")
"""The second is where TensorFlow Serving has them."""
PATTERN = re.compile(r":\[[^]]*\][+*]?")
"""The regular expressions in aiohttp's routes: {name:[^/:]+} is shown as {name}."""


class HttpMiddleware:
    """Stands around every request but those of health checks; who reads metrics needs a key, but no place."""

    def __init__(self, reception: RequestMiddleware) -> None:
        self._reception = reception

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Lets the request in, or raises the StatusError that it gets."""
        if request.path == HEALTH:
            return await handler(request)
        arrival = _arrival(request)
        if request.path in METRICS:
            self._reception.access.client(arrival.method, arrival.headers, arrival.peer, arrival.certificate_name)
            return await handler(request)
        with self._reception.around(arrival) as call:
            response = await handler(request)
            response.headers[REQUEST_ID] = call.id
            return response


def _arrival(request: web.Request) -> IncomingRequest:
    resource = request.match_info.route.resource
    route = PATTERN.sub("", resource.canonical) if resource is not None else printable(request.path)
    return IncomingRequest(f"{request.method} {route}", "REST", tuple(request.headers.items()), request.remote or "",
                   http_certificate_name(request.transport))
