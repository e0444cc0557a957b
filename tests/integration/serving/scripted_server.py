"""A real gRPC server with scripted answers, for what voc-serve cannot be brought to do at will, or not as quickly."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc

NOT_READY = "model 'tiny' is not ready yet"


@dataclass(frozen=True)
class Refusal:
    """How a call, or one request of a stream, is refused."""

    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    details: str = NOT_READY
    after_ms: int | None = None
    """Milliseconds after which to try again, as the server tells it."""


class Scripted(classifier_pb2_grpc.ClassifierServicer):  # type: ignore[misc]
    """Refuses as often as it has refusals, then answers without labels, `seconds` later."""

    def __init__(self, *refusals: Refusal, seconds: float = 0) -> None:
        self.refusals, self.seconds = list(refusals), seconds
        self.in_stream: list[Refusal] = []
        """For the next requests of streams; `refusals` are for the streams themselves."""
        self.calls: list[float] = []
        """When they came, time.monotonic()."""
        self.metadata: dict[str, str] = {}
        """Of the last call."""
        self.hung_up = threading.Event()
        """Set when the caller of a stream cancels it."""
        self.released = threading.Event()

    def Classify(self, request: classifier_pb2.ClassifyRequest, context: Any) -> classifier_pb2.ClassifyResponse:
        self._begin(context)
        self.released.wait(self.seconds)
        return nothing_seen(request)

    def ClassifyStream(self, requests: Iterator[classifier_pb2.ClassifyStreamRequest],
                       context: Any) -> Iterator[classifier_pb2.ClassifyStreamResponse]:
        self._begin(context)
        context.add_callback(self.hung_up.set)
        for request in requests:
            self.released.wait(self.seconds)
            if not self.in_stream:
                yield classifier_pb2.ClassifyStreamResponse(id=request.id, response=nothing_seen(request.request))
                continue
            refusal = self.in_stream.pop(0)
            yield classifier_pb2.ClassifyStreamResponse(id=request.id, error=classifier_pb2.Error(
                code=refusal.code.value[0], message=refusal.details, retry_after_ms=refusal.after_ms))

    def GetModel(self, _: classifier_pb2.GetModelRequest, context: Any) -> classifier_pb2.GetModelResponse:
        self._begin(context)
        return classifier_pb2.GetModelResponse()

    def _begin(self, context: Any) -> None:
        self.calls.append(time.monotonic())
        self.metadata = dict(context.invocation_metadata())
        if self.refusals:
            refusal = self.refusals.pop(0)
            if refusal.after_ms is not None:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", str(refusal.after_ms)),))
            context.abort(refusal.code, refusal.details)


def nothing_seen(request: classifier_pb2.ClassifyRequest) -> classifier_pb2.ClassifyResponse:
    """An answer without labels for each picture."""
    return classifier_pb2.ClassifyResponse(
        model="scripted", version=1, classifications=[classifier_pb2.Classification() for _ in request.pictures])


@contextmanager
def serving(servicer: Scripted, port: int = 0) -> Iterator[str]:
    """Its address, while it is served."""
    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads, options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
        classifier_pb2_grpc.add_ClassifierServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
        server.start()
        try:
            yield address
        finally:
            servicer.released.set()
            server.stop(None).wait()


if __name__ == "__main__":
    with serving(Scripted(seconds=0.01), int(sys.argv[1])):
        signal.pause()
