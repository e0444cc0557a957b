"""The services of the gRPC server, health and reflection among them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse, HealthListResponse
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio as reflection

from serving.config.config import ServeConfig
from serving.errors import NotFound
from serving.grpc.classifier_service import ClassifierService
from serving.grpc.open_inference import InferenceService
from serving.grpc.tensorflow_serving import ModelService, PredictionService
from serving.models.registry import ModelRegistry
from serving.security.sanitize import printable
from serving.shutdown import StopEvent
from serving.tensorflow_protos import FILES, service_handler
from serving.v2 import open_inference_pb2, open_inference_pb2_grpc
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc

PREDICTORS = ("voc_cls.v1.Classifier", "tensorflow.serving.PredictionService", "inference.GRPCInferenceService")
"""The services that need a model, so health reports each of them."""
REFLECTION = ("grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection")
ALL = (*PREDICTORS, "tensorflow.serving.ModelService", "grpc.health.v1.Health", *REFLECTION)


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1: whether the server, each of its services and each of its models can answer.

    Not grpcio-health-checking's servicer: it holds a lock while it writes to a watcher, so that one that does not read
    keeps the status from changing, and with it models from loading and the server from stopping.

    "" and the services are SERVING while every model has a version that answers; a model's name, while that has one.
    Before the registry is opened, and after, everything is NOT_SERVING.
    """

    def __init__(self, models: ModelRegistry, stop_event: StopEvent) -> None:
        self._models = models
        self._stop_event = stop_event
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Event()
        self.refresh()

    def refresh(self) -> None:
        """Reads the state of the models, and wakes the streams."""
        ready = {name: self._models.ready_model(name) for name in self._models.names}
        ready |= dict.fromkeys(("", *PREDICTORS), self._models.ready)
        self._statuses = {name: HealthCheckResponse.SERVING if able else HealthCheckResponse.NOT_SERVING
                          for name, able in ready.items()}
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        if request.service not in self._statuses:
            raise NotFound(f"no service or model is called '{printable(request.service)}'; ask for "
                           f"{', '.join(repr(name) for name in self._statuses)}")
        return HealthCheckResponse(status=self._statuses[request.service])

    async def List(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        return HealthListResponse(statuses={
            name: HealthCheckResponse(status=status) for name, status in self._statuses.items()})

    async def Watch(self, request: Any, context: Any) -> None:
        """Status of one service, now and whenever it changes, until the server stops."""
        sent = None
        while True:
            changed, status = self._changed, self._statuses.get(request.service, HealthCheckResponse.SERVICE_UNKNOWN)
            if status != sent:
                await context.write(HealthCheckResponse(status=status))
            sent = status
            if self._stop_event.is_set():
                return
            await changed.wait()


class GenericHandlers:
    """What generated code sees of a server, so that it does not register methods.

    For each call grpc.aio looks through all that it waits for, which is a call of each registered method.
    """

    def __init__(self, add_generic_rpc_handlers: Callable[[Any], None]) -> None:
        self.add_generic_rpc_handlers = add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Leaves it at the generic ones."""


def add_services(server: grpc.aio.Server | GenericHandlers, models: ModelRegistry, config: ServeConfig,
                 stop_event: StopEvent) -> HealthService:
    """Adds all services to `server`; returns the one of health."""
    health, generic = HealthService(models, stop_event), GenericHandlers(server.add_generic_rpc_handlers)
    models.on_change(health.refresh)
    classifier_pb2_grpc.add_ClassifierServicer_to_server(  # type: ignore[no-untyped-call]
        ClassifierService(models, stop_event, config), generic)
    server.add_generic_rpc_handlers([
        service_handler("tensorflow.serving.PredictionService", PredictionService(models, config.max_message_bytes)),
        service_handler("tensorflow.serving.ModelService", ModelService(models))])
    health_pb2_grpc.add_HealthServicer_to_server(health, server)  # its calls never wait behind others
    open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(  # type: ignore[no-untyped-call]
        InferenceService(models), generic)
    if config.security.has_reflection:  # by which grpcurl and similar tools list the services; a stop ends its streams
        servicer = reflection.ReflectionServicer(ALL, _described_files())
        methods = {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            lambda requests, context: servicer.ServerReflectionInfo(stop_event.until(requests), context),
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString)}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, methods)
                                         for service in REFLECTION])
    return health


def _described_files() -> descriptor_pool.DescriptorPool:
    """The files of all services, and of grpc.reflection.v1, which grpcio-reflection lacks: v1alpha by another name."""
    pool = descriptor_pool.DescriptorPool()
    alpha = descriptor_pb2.FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    text = text_format.MessageToString(alpha).replace("v1alpha", "v1")
    for file in (*FILES, text_format.Parse(text, descriptor_pb2.FileDescriptorProto())):
        pool.Add(file)
    for module in (classifier_pb2, open_inference_pb2, health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool
