"""grpc.health.v1: whether the server, each of its services and each of its models can answer.

Not grpcio-health-checking's servicer: it holds a lock while it writes to a watcher, so that one that does not read
keeps the status from changing, and with it models from loading and the server from stopping.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.errors import NotFound
from serving.models.registry import ModelRegistry
from serving.security.sanitize import printable
from serving.shutdown import StopEvent

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Check, List and Watch.

    "" and the services are SERVING while every model has a version that answers; a model's name, while that has one.
    Before the registry is opened, and after, everything is NOT_SERVING.
    """

    def __init__(self, services: Sequence[str], models: ModelRegistry, stop_event: StopEvent) -> None:
        self._services = ("", *services)
        self._models = models
        self._stop_event = stop_event
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Event()
        self.refresh()

    def refresh(self) -> None:
        """Reads the state of the models, and wakes the streams."""
        ready = {name: self._models.ready_model(name) for name in self._models.names}
        ready |= dict.fromkeys(self._services, self._models.ready)
        self._statuses = {name: SERVING if able else NOT_SERVING for name, able in ready.items()}
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        if request.service not in self._statuses:
            raise NotFound(f"no service or model is called '{printable(request.service)}'; ask for "
                           f"{', '.join(repr(name) for name in self._statuses)}")
        return health_pb2.HealthCheckResponse(status=self._statuses[request.service])

    async def List(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        return health_pb2.HealthListResponse(statuses={
            name: health_pb2.HealthCheckResponse(status=status) for name, status in self._statuses.items()})

    async def Watch(self, request: Any, context: Any) -> None:
        """Status of one service, now and whenever it changes, until the server stops."""
        sent = None
        while True:
            changed, status = self._changed, self._statuses.get(request.service, SERVICE_UNKNOWN)
            if status != sent:
                await context.write(health_pb2.HealthCheckResponse(status=status))
            sent = status
            if self._stop_event.is_set():
                return
            await changed.wait()
