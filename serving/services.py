"""Which services the gRPC server has. Importing this module imports TensorFlow, for the tensor messages."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2, prediction_service_pb2_grpc

from serving.classifier_service import ClassifierService
from serving.models import Models
from serving.prediction_service import PredictionService
from serving.streams import Health, Reflection, Stopping
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc


def _name(module: object, service: str) -> str:
    return str(module.DESCRIPTOR.services_by_name[service].full_name)  # type: ignore[attr-defined]


PREDICTORS = (_name(classifier_pb2, "Classifier"), _name(prediction_service_pb2, "PredictionService"))
"""The services that need a model, so each has a health of its own."""
ALL = (*PREDICTORS, _name(health_pb2, "Health"), _name(reflection_pb2, "ServerReflection"))


async def add_services(server: grpc.aio.Server, models: Models, max_message_bytes: int, stopping: Stopping) -> Health:
    """Adds all services; the returned health says NOT_SERVING until it is told otherwise."""
    health = Health(PREDICTORS, stopping)
    await health.set_all(serving=False)
    classifier_pb2_grpc.add_ClassifierServicer_to_server(  # type: ignore[no-untyped-call]
        ClassifierService(models), server)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(models, max_message_bytes), server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection(ALL, stopping), server)
    return health
