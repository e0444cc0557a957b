"""CORS: which pages of other origins may read answers (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from serving.config.config import ANY_ORIGIN

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Content-Encoding, Inference-Header-Content-Length, "
                                    "Traceparent, Tracestate, X-Api-Key, X-Request-Id",
    "Access-Control-Max-Age": "600",
}
EXPOSED = "Inference-Header-Content-Length, Retry-After, X-Request-Id"
"""Headers of answers that a page may read, besides those that it always may."""


def cors(origins: Collection[str]) -> Middleware:
    """Lets pages of these origins in; a preflight brings no key, so it is answered before keys are asked for."""
    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin", "")
        allowed = origin in origins or (bool(origin) and ANY_ORIGIN in origins)
        if allowed and request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response: web.StreamResponse = web.Response(status=204, headers=PREFLIGHT)
        else:
            response = await handler(request)
        response.headers.add("Vary", "Origin")
        if allowed:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
        return response

    return handle
