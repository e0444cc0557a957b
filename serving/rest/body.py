"""Taking in the body of a request, as it came over the wire; what it holds is read later, on a thread."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
from aiohttp import web

from serving.errors import InvalidArgument, StatusError
from serving.request_middleware import RECEIVE_SECONDS
from serving.rest.json import parse, too_large, unzip
from serving.security.sanitize import printable


class UnsupportedEncoding(StatusError):
    """A Content-Encoding that this server does not unpack."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    http = 415


class RequestTimeout(StatusError):
    """A body that takes too long to arrive: its call counts as running for all that time."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
    http = 408


@dataclass(frozen=True)
class Body:
    """The body of a request, as it came."""

    content: bytes
    zipped: bool
    max_bytes: int

    def parsed(self) -> dict[str, Any]:
        """The JSON object in it; blocks. Raises InvalidArgument or PayloadTooLarge."""
        return parse(unzip(self.content, self.max_bytes) if self.zipped else self.content)


async def read_body(request: web.Request, max_bytes: int) -> Body:
    """Reads up to `max_bytes`; refuses more, where Content-Length tells it before anything is read."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise UnsupportedEncoding(f"Content-Encoding '{printable(encoding)}' is not unpacked here: send gzip, or none")
    if (request.content_length or 0) > max_bytes:
        raise too_large(max_bytes)
    content = bytearray()
    try:
        async with asyncio.timeout(RECEIVE_SECONDS):
            async for chunk in request.content.iter_any():
                content += chunk
                if len(content) > max_bytes:
                    raise too_large(max_bytes)
    except TimeoutError:
        raise RequestTimeout(f"the body did not arrive within {RECEIVE_SECONDS:g} s") from None
    except web.RequestPayloadError as error:
        raise InvalidArgument(f"the body could not be read: {error}") from None
    return Body(bytes(content), encoding == "gzip", max_bytes)
