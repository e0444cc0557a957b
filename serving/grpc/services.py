"""The services of the gRPC server. Importing this module imports TensorFlow, for the tensor messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import aio as reflection
from tensorflow_serving.apis import (
    model_service_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from serving.config.config import ServeConfig
from serving.grpc.classifier_service import ClassifierService
from serving.grpc.health import HealthService
from serving.grpc.tensorflow_serving import ModelService, PredictionService
from serving.models.registry import ModelRegistry
from serving.shutdown import StopEvent
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc


def _name(module: Any, service: str) -> str:
    return str(module.DESCRIPTOR.services_by_name[service].full_name)


PREDICTORS = (_name(classifier_pb2, "Classifier"), _name(prediction_service_pb2, "PredictionService"))
"""The services that need a model, so health reports each of them."""
ALL = (*PREDICTORS, _name(model_service_pb2, "ModelService"), _name(health_pb2, "Health"),
       _name(reflection_pb2, "ServerReflection"))


class ReflectionService(reflection.ReflectionServicer):  # type: ignore[misc]
    """grpc.reflection.v1alpha, by which grpcurl and similar tools list the services; a stop ends its streams."""

    def __init__(self, services: Sequence[str], stop_event: StopEvent) -> None:
        super().__init__(services)
        self._stop_event = stop_event

    async def ServerReflectionInfo(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for response in super().ServerReflectionInfo(self._stop_event.until(request_iterator), context):
            yield response


def add_services(server: grpc.aio.Server, models: ModelRegistry, config: ServeConfig,
                 stop_event: StopEvent) -> HealthService:
    """Adds all services to `server`; returns the one of health."""
    health = HealthService(PREDICTORS, models, stop_event)
    models.on_change(health.refresh)
    classifier_pb2_grpc.add_ClassifierServicer_to_server(  # type: ignore[no-untyped-call]
        ClassifierService(models, stop_event, config), server)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(models, config.max_message_bytes), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if config.security.has_reflection:
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(ReflectionService(ALL, stop_event), server)
    return health
