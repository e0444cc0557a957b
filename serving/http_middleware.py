"""aiohttp's middlewares: the request middleware around HTTP requests, {"error": "…"} for errors, CORS, packing."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler, Middleware

from serving.config.config import ANY_ORIGIN
from serving.errors import DeadlineExceeded, InvalidArgument, NotFound, StatusError, Unimplemented
from serving.request_context import REQUEST_ID, current_request
from serving.request_middleware import MIDDLEWARE, IncomingRequest, RequestMiddleware
from serving.security.auth import KEYLESS, group_of
from serving.security.sanitize import printable
from serving.security.tls import http_certificate_name

ROUTES = ("POST /v1/models/NAME[/versions/NUMBER|/labels/LABEL]:predict, :classify; "
          "GET /v1/models[/NAME[/versions/NUMBER|/labels/LABEL]], …/metadata, …/description; POST "
          "/v1/classify; POST /v2/models/NAME[/versions/VERSION]/infer; GET /v2; GET /healthz; GET /metrics; all: GET "
          "/openapi.json")
PATTERN = re.compile(r":\[[^]]*\][+*]?")
"""The regular expressions in aiohttp's routes: {name:[^/:]+} is shown as {name}."""

ACCEPTS_GZIP = re.compile(r"\bgzip\s*(?!\s*;\s*q=0(\.0*)?\s*(,|$))", re.IGNORECASE)
"""In Accept-Encoding; the weight 0 means "not this one" (RFC 9110, section 12.4.2)."""
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Content-Encoding, Inference-Header-Content-Length, "
                                    "Traceparent, Tracestate, X-Api-Key, X-Request-Id",
    "Access-Control-Max-Age": "600",
}
EXPOSED = "Inference-Header-Content-Length, Retry-After, X-Request-Id"
"""Headers of answers that a page may read, besides those that it always may."""


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A line of JSON, in UTF-8 as always: KServe's client reads errors only without a charset in the content type."""
    return web.Response(body=f"{json.dumps(content, ensure_ascii=False)}\n".encode(), status=status, headers=headers,
                        content_type="application/json")


def http_middleware(middleware: RequestMiddleware, seconds: float) -> Middleware:
    """Wraps every request but health checks and the page; reading metrics needs a key, but is not limited or counted.

    `seconds`: how long a request may take, from its head to its answer; 0: no limit.
    """
    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[MIDDLEWARE] = middleware
        resource = request.match_info.route.resource
        route = PATTERN.sub("", resource.canonical) if resource is not None else printable(request.path)
        incoming = IncomingRequest(f"{request.method} {route}", "REST", tuple(request.headers.items()),
                                   request.remote or "", http_certificate_name(request.transport),
                                   asyncio.get_running_loop().time() + seconds if seconds else None)
        if group_of(incoming.method) in (*KEYLESS, "metrics"):
            middleware.authenticator.client(incoming.method, incoming.headers, incoming.peer, incoming.certificate_name)
            return await handler(request)
        with middleware.around(incoming) as context:
            try:
                async with asyncio.timeout_at(context.deadline) as timeout:
                    response = await handler(request)
            except TimeoutError:
                if not timeout.expired():
                    raise
                if not request.content.is_eof():
                    raise DeadlineExceeded(f"the body did not arrive within {seconds:g} s (`http_timeout`)",
                                           http=408) from None
                raise DeadlineExceeded(f"the answer was not ready within {seconds:g} s (`http_timeout`): send fewer "
                                       "pictures in one call, or try again when this server has less to do") from None
            context.http_status = response.status
            response.headers[REQUEST_ID] = context.id
            return response

    return handle


@web.middleware
async def compress(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Packs answers of more than 1 kB for those who accept gzip; aiohttp does so on a thread."""
    response = await handler(request)
    if isinstance(response, web.Response) and isinstance(response.body, bytes) and len(response.body) > 1024:
        response.headers.add("Vary", "Accept-Encoding")
        if ACCEPTS_GZIP.search(request.headers.get("Accept-Encoding", "")):
            response.enable_compression(web.ContentCoding.gzip)
    return response


def cors(origins: Collection[str]) -> Middleware:
    """Lets pages of these origins read answers (https://fetch.spec.whatwg.org/#http-cors-protocol).

    A preflight brings no key, so it is answered before keys are asked for.
    """
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


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers StatusErrors with their HTTP status."""
    try:
        response = await handler(request)
    except StatusError as error:
        response = error_response(error)
    if response.status == 503:
        response.headers.setdefault("Retry-After", "1")  # of health, which is no error
    return response


def error_response(error: StatusError) -> web.Response:
    """The response to a StatusError; Retry-After is in whole seconds, as HTTP has it."""
    request = current_request.get(None)  # by its id it is found in the log; health checks and metrics have none
    headers = {**error.headers, **({} if request is None else {REQUEST_ID: request.id})}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return json_response({"error": str(error)}, error.http, headers)


@web.middleware
async def unknown_routes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns aiohttp's own 404 and 405 into StatusErrors."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        raise NotFound(f"there is no {printable(request.path)} here; there is: {ROUTES}") from None
    except web.HTTPMethodNotAllowed as error:
        allowed = " or ".join(sorted(error.allowed_methods - {"HEAD"}))
        refusal = Unimplemented(f"{printable(request.path)} takes {allowed}, not {printable(request.method)}", http=405)
        refusal.headers = {"Allow": ", ".join(sorted(error.allowed_methods))}
        raise refusal from None


async def answer_expectation(request: web.Request) -> web.StreamResponse | None:
    """Asks for the body that a client holds back. Not aiohttp's own handler, which fails on other than UTF-8."""
    expectation = request.headers.get("Expect", "")
    if request.version != HttpVersion11:
        return None
    if expectation.lower() != "100-continue":
        return error_response(InvalidArgument(f"Expect '{printable(expectation)}' is unknown: send 100-continue or "
                                                "omit it", http=417))
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # no byte of the response itself has been sent
    return None
