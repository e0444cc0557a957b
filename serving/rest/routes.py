"""The HTTP port: TensorFlow Serving's REST API, /healthz for probes and /metrics for Prometheus.

On aiohttp because its server is made to be embedded in an event loop that is not its own. The application reads bodies
as received, so its runner needs auto_decompress=False: gzip is unpacked here, on a thread and within the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware
from google.protobuf.json_format import MessageToDict

from serving.errors import InvalidArgument
from serving.http_middleware import answer_expectation, errors_as_json, unknown_routes, write_json
from serving.inference import check_classification, classify_examples, predict, refuse_regression
from serving.models.registry import ModelRegistry
from serving.models.servable import Servable
from serving.models.signatures import signature_name
from serving.rest.json import (
    PredictInput,
    read_body,
    read_images,
    read_predict_input,
    read_signature_name,
    write_classifications,
    write_outputs,
)
from serving.security.sanitize import printable
from serving.telemetry.metrics import Metrics

MODEL = "/v1/models/{name:[^/:]+}"
VERSIONS = (MODEL, MODEL + "/versions/{version:[^/:]+}", MODEL + "/labels/{label:[^/:]+}")
"""How a URL names a model, and a version of it by number or label."""


class RestApi:
    """The routes."""

    def __init__(self, models: ModelRegistry, max_bytes: int, metrics: Metrics) -> None:
        self._models, self._max_bytes, self._metrics = models, max_bytes, metrics

    def application(self, *middlewares: Middleware) -> web.Application:
        """For aiohttp's runner. The middlewares wrap every request; a StatusError that leaves them becomes JSON."""
        application = web.Application(middlewares=[errors_as_json, *middlewares, unknown_routes])
        get = partial(application.router.add_get, expect_handler=answer_expectation)
        post = partial(application.router.add_post, expect_handler=answer_expectation)
        get("/healthz", self._health)
        get("/metrics", self._metrics_page)
        get("/monitoring/prometheus/metrics", self._metrics_page)  # TensorFlow Serving's
        for model in VERSIONS:
            post(f"{model}:predict", self._predict)
            post(f"{model}:classify", self._classify)
            post(f"{model}:regress", self._regress)
            get(model, self._status)
            get(f"{model}/metadata", self._metadata)
        return application

    async def _health(self, request: web.Request) -> web.Response:  # noqa: ARG002
        serving = self._models.ready
        return web.Response(text="SERVING\n" if serving else "NOT_SERVING\n", status=200 if serving else 503)

    async def _metrics_page(self, request: web.Request) -> web.Response:  # noqa: ARG002
        page, content_type = self._metrics.page()
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def _predict(self, request: web.Request) -> web.Response:
        version, parse = _requested_version(request), await read_body(request, self._max_bytes)
        with self._models.use(*version) as servable:
            given = await servable.on_thread(_predict_input, parse, servable)
            outputs = await predict(servable, given.signature, given.array, (), given.form)
            return _json(await servable.on_thread(write_outputs, outputs, given.form))

    async def _classify(self, request: web.Request) -> web.Response:
        version, parse = _requested_version(request), await read_body(request, self._max_bytes)
        with self._models.use(*version) as servable:
            scores = await classify_examples(servable, await servable.on_thread(_images, parse, servable))
            return _json(await servable.on_thread(write_classifications, servable.metadata.labels, scores))

    async def _regress(self, request: web.Request) -> web.Response:
        with self._models.use(*_requested_version(request)):
            refuse_regression()

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response({"model_version_status": [
            {"version": str(number), "state": version.state.name, "status": version.status}
            for number, version in self._models.versions(*_requested_version(request)).items()]}, dumps=write_json)

    async def _metadata(self, request: web.Request) -> web.Response:
        with self._models.use(*_requested_version(request)) as servable:
            signatures = {name: MessageToDict(signature, preserving_proto_field_name=True,
                                              always_print_fields_with_no_presence=True)
                          for name, signature in sorted(servable.signatures.items())}
            return web.json_response({
                "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
                "metadata": {"signature_def": {"signature_def": signatures}}}, dumps=write_json)


def _requested_version(request: web.Request) -> tuple[str, int | None, str]:
    """Name, version and label of a URL."""
    parts: dict[str, Any] = dict(request.match_info)
    version = parts.get("version")
    if version is not None and not (version.isascii() and version.isdigit() and len(version) < 20):
        raise InvalidArgument(f"'{printable(version)}' in the URL is not a version: write its number, or /labels/ "
                              "for a label")
    return parts["name"], None if version is None else int(version), parts.get("label", "")


def _predict_input(parse: Callable[[], dict[str, Any]], servable: Servable) -> PredictInput:
    content = parse()
    name = signature_name(servable.name, read_signature_name(content))
    return read_predict_input(content, name, servable.metadata.size)


def _images(parse: Callable[[], dict[str, Any]], servable: Servable) -> list[bytes]:
    content = parse()
    check_classification(servable.name, read_signature_name(content))
    return read_images(content)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
