"""Which services the gRPC server has. Importing this module imports TensorFlow, for the tensor messages."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import (
    model_service_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from serving.config.config import ServeConfig
from serving.grpc.classifier_service import ClassifierService
from serving.grpc.health import HealthService
from serving.grpc.model_service import ModelService
from serving.grpc.prediction_service import PredictionService
from serving.grpc.streams import Reflection, StopEvent
from serving.models.registry import ModelRegistry
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc


def _name(module: object, service: str) -> str:
    return str(module.DESCRIPTOR.services_by_name[service].full_name)  # type: ignore[attr-defined]


PREDICTORS = (_name(classifier_pb2, "Classifier"), _name(prediction_service_pb2, "PredictionService"))
"""The services that need a model, so each has a health of its own."""
ALL = (*PREDICTORS, _name(model_service_pb2, "ModelService"), _name(health_pb2, "Health"),
       _name(reflection_pb2, "ServerReflection"))


async def add_services(server: grpc.aio.Server, models: ModelRegistry, config: ServeConfig,
                       stopping: StopEvent) -> HealthService:
    """Adds all services; the returned health says NOT_SERVING until it is opened."""
    health = HealthService(PREDICTORS, models, stopping)
    await health.refresh()
    models.on_change(health.refresh)
    classifier_pb2_grpc.add_ClassifierServicer_to_server(  # type: ignore[no-untyped-call]
        ClassifierService(models, stopping, config), server)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(models, config.max_message_bytes), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if _reflects(config):
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection(ALL, stopping), server)
    return health


def _reflects(config: ServeConfig) -> bool:
    security = config.security
    if security.reflection == "auto":
        return security.keys_file is None and security.client_ca is None
    return security.reflection == "on"
