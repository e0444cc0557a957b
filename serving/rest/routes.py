"""The HTTP port: TensorFlow Serving's REST API, /healthz for probes, /metrics for Prometheus, /openapi.json.

On aiohttp because its server is made to be embedded in an event loop that is not its own. The application reads bodies
as received, so its runner needs auto_decompress=False: gzip is unpacked here, on a thread and within the limit.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware
from google.protobuf.json_format import MessageToDict

from serving import http_middleware
from serving.errors import InvalidArgument
from serving.http_middleware import json_response
from serving.inference import check_classification, classify_examples, predict, refuse_regression
from serving.models.registry import ModelRegistry
from serving.rest.classifier import ClassifierApi
from serving.rest.json import (
    parse,
    read_body,
    read_images,
    read_predict_input,
    read_signature_name,
    write_classifications,
    write_outputs,
)
from serving.rest.open_inference import add_routes
from serving.security.sanitize import printable
from serving.telemetry.metrics import Metrics
from voc_cls.model_metadata import version_number
from voc_cls.version import __version__

MODEL = "/v1/models/{name:[^/:]+}"
VERSIONS = (MODEL, MODEL + "/versions/{version:[^/:]+}", MODEL + "/labels/{label:[^/:]+}")
"""How a URL names a model, and a version of it by number or label."""
ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
ANSWERS = {"200": {"description": "The answer."},
           "default": {"description": "Why there is none.", "content": {"application/json": {"schema": ERROR}}}}
BODY = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}
SECURITY = {"bearer": {"type": "http", "scheme": "bearer"},
            "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"}}


class RestApi:
    """The routes."""

    def __init__(self, models: ModelRegistry, max_bytes: int, metrics: Metrics, origins: Collection[str],
                 classifier: ClassifierApi) -> None:
        """`origins`: of pages that may read answers."""
        self._classifier = classifier
        self._models, self._max_bytes, self._metrics, self._origins = models, max_bytes, metrics, origins

    def application(self, *middlewares: Middleware) -> web.Application:
        """For aiohttp's runner. The middlewares wrap every request; a StatusError that leaves them becomes JSON."""
        outermost = [http_middleware.cors(self._origins)] if self._origins else []
        application = web.Application(middlewares=[
            *outermost, http_middleware.compress, http_middleware.errors_as_json, *middlewares,
            http_middleware.unknown_routes])
        get = partial(application.router.add_get, expect_handler=http_middleware.answer_expectation)
        post = partial(application.router.add_post, expect_handler=http_middleware.answer_expectation)
        get("/healthz", self._health)
        get("/openapi.json", self._openapi)
        get("/metrics", self._metrics_page)
        get("/monitoring/prometheus/metrics", self._metrics_page)  # TensorFlow Serving's
        get("/v1/models", self._list)
        post("/v1/classify", self._classifier.classify)
        add_routes(get, post, self._models, self._max_bytes)
        for model in VERSIONS:
            post(f"{model}:predict", self._predict)
            post(f"{model}:classify", self._classify)
            post(f"{model}:regress", self._regress)
            get(model, self._status)
            get(f"{model}/metadata", self._metadata)
            get(f"{model}/description", self._description)
        return application

    async def _openapi(self, request: web.Request) -> web.Response:
        """This description."""
        return json_response(_describe(request.app))

    async def _health(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Whether every model has a version that answers: 200 or 503."""
        serving = self._models.ready
        return web.Response(text="SERVING\n" if serving else "NOT_SERVING\n", status=200 if serving else 503)

    async def _metrics_page(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """Metrics for Prometheus."""
        page, content_type = self._metrics.page()
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def _predict(self, request: web.Request) -> web.Response:
        """Images in, one or two tensors out, as TensorFlow Serving's Predict."""
        version, body = _requested_version(request), await read_body(request, self._max_bytes)
        with self._models.use(*version) as servable:
            signature, array, form = await servable.on_thread(
                lambda: read_predict_input(parse(body), servable.name, servable.metadata.preprocessing.size,
                                           servable.metadata.signatures))
            outputs = await predict(servable, signature, array, (), form)
            answer = await servable.on_thread(write_outputs, outputs, form)
            return web.Response(body=answer, content_type="application/json")

    async def _classify(self, request: web.Request) -> web.Response:
        """tf.Examples in, every label with its score out."""
        version, body = _requested_version(request), await read_body(request, self._max_bytes)
        with self._models.use(*version) as servable:
            content = await servable.on_thread(parse, body)
            check_classification(servable, read_signature_name(content))
            scores = await classify_examples(servable, await servable.on_thread(read_images, content))
            answer = await servable.on_thread(write_classifications, servable.metadata.labels, scores)
            return web.Response(body=answer, content_type="application/json")

    async def _regress(self, request: web.Request) -> web.Response:
        """Refused: no model has a regression."""
        with self._models.use(*_requested_version(request)):
            refuse_regression()

    async def _list(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """All models, with the states of their versions."""
        return json_response({"models": [{"name": name, **self._states(name)} for name in self._models.names]})

    async def _status(self, request: web.Request) -> web.Response:
        """The states of a model's versions."""
        return json_response(self._states(*_requested_version(request)))

    def _states(self, name: str, version: int | None = None, label: str = "") -> dict[str, Any]:
        return {"model_version_status": [{"version": str(number), "state": found.state.name, "status": found.status}
                                         for number, found in self._models.versions(name, version, label).items()]}

    async def _description(self, request: web.Request) -> web.Response:
        """Labels, thresholds, preprocessing, scores and versions of a model."""
        return await self._classifier.describe(*_requested_version(request))

    async def _metadata(self, request: web.Request) -> web.Response:
        """The signatures of a model."""
        with self._models.use(*_requested_version(request)) as servable:
            signatures = {name: MessageToDict(signature, preserving_proto_field_name=True,
                                              always_print_fields_with_no_presence=True)
                          for name, signature in sorted(servable.signatures.signature_def.items())}
            return json_response({
                "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
                "metadata": {"signature_def": {"signature_def": signatures}}})


def _requested_version(request: web.Request) -> tuple[str, int | None, str]:
    """Name, version and label of a URL."""
    parts: dict[str, Any] = dict(request.match_info)
    name, text, label = parts["name"], parts.get("version"), parts.get("label", "")
    if text is None:
        return name, None, label
    if (number := version_number(text)) is None:
        raise InvalidArgument(f"'{printable(text)}' in the URL is not a version: write its number, or /labels/ for a "
                              "label")
    return name, number or None, label  # ovmsclient asks for the latest version by 0, which voc-export never writes


def _describe(application: web.Application) -> dict[str, Any]:
    """An OpenAPI 3.1 document of the routes, by their paths and the first lines of their handlers' docstrings.

    Bodies are only said to be objects: docs/serving.md describes them.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in application.router.routes():
        if route.resource is not None and route.method != "HEAD":
            path = http_middleware.PATTERN.sub("", route.resource.canonical)
            paths.setdefault(path, {})[route.method.lower()] = {
                "summary": (inspect.getdoc(route.handler) or "").partition("\n")[0],
                "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                               for name in re.findall(r"{(\w+)}", path)],
                **(BODY if route.method == "POST" else {}), "responses": {
                    **ANSWERS, **({"503": {"description": "Not ready."}} if re.search("healthz|ready", path) else {})}}
    return {"openapi": "3.1.0", "info": {"title": "voc-serve", "version": __version__}, "paths": paths,
            "security": [{}, *({scheme: []} for scheme in SECURITY)], "components": {"securitySchemes": SECURITY}}
