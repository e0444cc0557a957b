"""The HTTP port: TensorFlow Serving's REST API, /healthz for probes and /metrics for Prometheus.

On aiohttp because its server is made to be embedded in an event loop that is not its own. The application reads bodies
as they come, so its runner needs auto_decompress=False: gzip is unpacked here, on a thread and within the limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware
from google.protobuf.json_format import MessageToDict

from serving.config.config import ServeConfig
from serving.errors import InvalidArgument
from serving.grpc.model_status import version_statuses
from serving.http_middleware import HEALTH, METRICS
from serving.inference import (
    check_classification,
    classify_examples,
    predict,
    refuse_regression,
    signature_name,
)
from serving.models.registry import ModelRegistry
from serving.models.servable import Servable
from serving.request_context import current_request
from serving.rest.body import Body, read_body
from serving.rest.error_handlers import answer_expectation, refusals_as_json, refuse_unknown_routes
from serving.rest.json import write_json
from serving.rest.tensors import (
    Tensor,
    read_pictures,
    read_signature_name,
    read_tensor,
    write_classifications,
    write_outputs,
)
from serving.security.sanitize import printable
from serving.telemetry.metrics import Metrics

MODEL = "/v1/models/{name:[^/:]+}"
VERSIONS = (MODEL, MODEL + "/versions/{version:[^/:]+}", MODEL + "/labels/{label:[^/:]+}")
"""How a URL names what it is about."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Question:
    """A Predict call, read and checked."""

    signature: str
    tensor: Tensor


class RestApi:
    """The routes. JSON is read and written on the threads of `decoders`."""

    def __init__(self, models: ModelRegistry, config: ServeConfig, decoders: Executor, metrics: Metrics) -> None:
        self.open = False
        """Whether the server answers calls: not yet while it starts, no longer when it stops."""
        self._models, self._decoders, self._metrics = models, decoders, metrics
        self._max_bytes = config.max_message_bytes

    def application(self, *middlewares: Middleware) -> web.Application:
        """What aiohttp serves. The middlewares stand around every call; a StatusError that leaves them becomes JSON."""
        application = web.Application(middlewares=[refusals_as_json, *middlewares, refuse_unknown_routes])
        get = partial(application.router.add_get, expect_handler=answer_expectation)
        post = partial(application.router.add_post, expect_handler=answer_expectation)
        get(HEALTH, self._health)
        for path in METRICS:
            get(path, self._metrics_page)
        for model in VERSIONS:
            post(f"{model}:predict", self._predict)
            post(f"{model}:classify", self._classify)
            post(f"{model}:regress", self._regress)
            get(model, self._status)
            get(f"{model}/metadata", self._metadata)
        return application

    async def _health(self, request: web.Request) -> web.Response:  # noqa: ARG002
        serving = self.open and self._models.ready
        return web.Response(text="SERVING\n" if serving else "NOT_SERVING\n", status=200 if serving else 503)

    async def _metrics_page(self, request: web.Request) -> web.Response:
        page, content_type = self._metrics.page(request.headers.get("Accept", ""))
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def _predict(self, request: web.Request) -> web.Response:
        asked, body, call = _asked(request), await read_body(request, self._max_bytes), current_request()
        with self._models.use(*asked) as servable:
            question = await self._on_thread(lambda: _question(body, servable))
            outputs = await predict(servable, question.signature, question.tensor.array, (), call, question.tensor.form)
            return _json(await self._on_thread(lambda: write_outputs(outputs, question.tensor.form)))

    async def _classify(self, request: web.Request) -> web.Response:
        asked, body, call = _asked(request), await read_body(request, self._max_bytes), current_request()
        with self._models.use(*asked) as servable:
            pictures = await self._on_thread(lambda: _pictures(body, servable))
            scores = await classify_examples(servable, pictures, call)
            labels = servable.metadata.labels
            return _json(await self._on_thread(lambda: write_classifications(labels, scores)))

    async def _regress(self, request: web.Request) -> web.Response:
        with self._models.use(*_asked(request)):
            refuse_regression()

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response({"model_version_status": [
            {"version": str(status.number), "state": status.state.name,
             "status": {"error_code": status.error_code, "error_message": status.error_message}}
            for status in version_statuses(self._models, *_asked(request))]}, dumps=write_json)

    async def _metadata(self, request: web.Request) -> web.Response:
        with self._models.use(*_asked(request)) as servable:
            signatures = {name: MessageToDict(signature, preserving_proto_field_name=True,
                                              always_print_fields_with_no_presence=True)
                          for name, signature in sorted(servable.signatures.items())}
            return web.json_response({
                "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
                "metadata": {"signature_def": {"signature_def": signatures}}}, dumps=write_json)

    async def _on_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)


def _asked(request: web.Request) -> tuple[str, int | None, str]:
    """Name, version and label of a URL."""
    found: dict[str, Any] = dict(request.match_info)
    version = found.get("version")
    if version is not None and not (version.isascii() and version.isdigit() and len(version) < 20):
        raise InvalidArgument(f"'{printable(version)}' in the URL is no version: write its number, or /labels/ for a "
                              f"label")
    return found["name"], None if version is None else int(version), found.get("label", "")


def _question(body: Body, servable: Servable) -> Question:
    content = body.parsed()
    name = signature_name(servable, read_signature_name(content))
    return Question(name, read_tensor(content, name, servable.metadata.size))


def _pictures(body: Body, servable: Servable) -> list[bytes]:
    content = body.parsed()
    check_classification(servable, read_signature_name(content))
    return read_pictures(content)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
