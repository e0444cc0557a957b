"""What a caller of the HTTP port gets instead of an answer: {"error": "one sentence"} and a status."""

from __future__ import annotations

import math

import grpc
from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler

from serving.errors import NotFound, StatusError, Unauthenticated
from serving.request_context import current_request
from serving.request_middleware import FAILED, REQUEST_ID
from serving.rest.json import write_json
from serving.security.sanitize import printable

ROUTES = ("POST /v1/models/NAME[/versions/NUMBER|/labels/LABEL]:predict, :classify; "
          "GET /v1/models/NAME[/versions/NUMBER|/labels/LABEL], …/metadata; GET /healthz; GET /metrics")


class MethodNotAllowed(StatusError):
    """A known path with another HTTP method than it has."""

    status = grpc.StatusCode.UNIMPLEMENTED
    http = 405


class ExpectationFailed(StatusError):
    """An Expect header that is not 100-continue."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    http = 417


async def answer_expectation(request: web.Request) -> web.StreamResponse | None:
    """Lets the body come that a client waits to send. Not aiohttp's own handler, as that fails on what is no UTF-8."""
    expected = request.headers.get("Expect", "")
    if request.version != HttpVersion11:
        return None
    if expected.lower() != "100-continue":
        return refused(ExpectationFailed(f"Expect '{printable(expected)}' is not known here: send 100-continue or "
                                         f"none"))
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # none of the answer's own bytes has been sent
    return None


@web.middleware
async def refusals_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns StatusErrors into answers. Other errors become 500; whoever stands inside logs them."""
    try:
        return await handler(request)
    except StatusError as refusal:
        return refused(refusal)
    except web.HTTPException:
        raise
    except Exception:
        return web.json_response({"error": FAILED}, status=500, headers=_request_id(), dumps=write_json)


def refused(refusal: StatusError) -> web.Response:
    """The answer that a StatusError is; Retry-After in whole seconds, as HTTP has it."""
    headers = _request_id()
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_after)))
    if isinstance(refusal, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110: a 401 says how to do better
    return web.json_response({"error": str(refusal)}, status=refusal.http, headers=headers, dumps=write_json)


def _request_id() -> dict[str, str]:
    """The header by which the call is found in the log; none for requests that were no calls."""
    try:
        return {REQUEST_ID: current_request().id}
    except LookupError:
        return {}


@web.middleware
async def refuse_unknown_routes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Makes StatusErrors of aiohttp's own 404 and 405."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        raise NotFound(f"there is no {printable(request.path)} here; there is: {ROUTES}") from None
    except web.HTTPMethodNotAllowed as error:
        allowed = " or ".join(sorted(error.allowed_methods - {"HEAD"}))
        raise MethodNotAllowed(f"{printable(request.path)} takes {allowed}, not {printable(request.method)}") from None
