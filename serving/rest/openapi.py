"""/openapi.json: the routes, by their paths and the first lines of their handlers' docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

from aiohttp import web

from serving.http_middleware import PATTERN
from voc_cls.version import __version__

ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
ANSWERS = {"200": {"description": "The answer."},
           "default": {"description": "Why there is none.", "content": {"application/json": {"schema": ERROR}}}}
BODY = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}
SECURITY = {"bearer": {"type": "http", "scheme": "bearer"},
            "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"}}


def describe(application: web.Application) -> dict[str, Any]:
    """An OpenAPI 3.1 document. Bodies are only said to be objects: docs/serving.md describes them."""
    paths: dict[str, dict[str, Any]] = {}
    for route in application.router.routes():
        if route.resource is not None and route.method != "HEAD":
            path = PATTERN.sub("", route.resource.canonical)
            paths.setdefault(path, {})[route.method.lower()] = {
                "summary": (inspect.getdoc(route.handler) or "").partition("\n")[0],
                "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                               for name in re.findall(r"{(\w+)}", path)],
                **(BODY if route.method == "POST" else {}), "responses": ANSWERS}
    return {"openapi": "3.1.0", "info": {"title": "voc-serve", "version": __version__}, "paths": paths,
            "security": [{}, *({scheme: []} for scheme in SECURITY)], "components": {"securitySchemes": SECURITY}}
