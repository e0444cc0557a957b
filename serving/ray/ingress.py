"""What Ray's gRPC ingress takes: methods by their full names, and messages as the bytes that came.

Ray calls the method of a deployment that has the name of the RPC, whatever its service, and pickles the message on the
way to another process. So a message travels with its method, and is read where its limits are known.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from serving.errors import Unavailable
from serving.request_context import FAILED
from serving.tensorflow_protos import POOL
from serving.v2 import open_inference_pb2
from voc_cls.v1 import classifier_pb2

SERVICES = (*(file.DESCRIPTOR.services_by_name[name] for file, name in (
    (classifier_pb2, "Classifier"), (open_inference_pb2, "GRPCInferenceService"), (health_pb2, "Health"))),
            *map(POOL.FindServiceByName, ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")))
LEFT_OUT = {"HandleReloadConfigRequest", "RepositoryModelLoad", "RepositoryModelUnload", "Watch"}
"""They would change, or watch, the one replica that gets the call."""
METHODS: dict[str, bool] = {f"/{service.full_name}/{method.name}": method.server_streaming
                            for service in SERVICES for method in service.methods if method.name not in LEFT_OUT}
"""Each method → whether it is a stream, both ways."""


@dataclass(frozen=True)
class RawMessage:
    """A message as it came."""

    method: str
    content: bytes


class _Service(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The methods of all services. Ray replaces their handlers by its own."""

    def __init__(self) -> None:
        self._method_handlers = {method: (
            grpc.stream_stream_rpc_method_handler if is_stream else grpc.unary_unary_rpc_method_handler)(
                None, partial(RawMessage, method)) for method, is_stream in METHODS.items()}

    def service(self, details: Any) -> Any:
        handler = self._method_handlers.get(details.method)
        return handler and handler._replace(unary_unary=partial(_unary, handler.unary_unary),
                                            stream_stream=partial(_stream, handler.stream_stream))


async def _unary(answer: Any, message: RawMessage, context: Any) -> bytes:
    content: bytes = await answer(message, context)
    await _end(context)
    return content


async def _stream(answer: Any, messages: AsyncIterator[RawMessage], context: Any) -> AsyncIterator[bytes]:
    async for content in answer(messages, context):
        yield content
    await _end(context)


async def _end(context: Any) -> None:
    """Ends a call that has failed without the empty message of Ray's, with which clients would not send it again.

    Ray's INTERNAL for a call whose replica has ended becomes UNAVAILABLE.
    """
    if context.code() is grpc.StatusCode.INTERNAL and context.details() != FAILED:
        lost = Unavailable("the replica that had this call has ended: send it again")
        await context.abort(lost.status, str(lost), (("grpc-retry-pushback-ms", str(lost.retry_after_ms)),))
    if (code := context.code()) and code is not grpc.StatusCode.OK:
        await context.abort(code, context.details())


def add_services(servicer: Any, server: Any) -> None:  # noqa: ARG001
    """All services, for the `grpc_servicer_functions` of Ray's gRPCOptions."""
    server.add_generic_rpc_handlers([_Service()])
