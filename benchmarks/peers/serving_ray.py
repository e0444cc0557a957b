"""A peer of benchmarks/serving.py: Ray Serve's gRPC ingress with our proto's Classify and `@serve.batch`.

    python benchmarks/peers/serving_ray.py SETTINGS_JSON

There is one replica with all cores, because the engine uses them all. Images are decoded and batches computed in
threads, so that the replica's event loop stays free. `max_ongoing_requests` is raised from 5; otherwise batches would
not fill. HAProxy replaces Ray's own proxy: 0.5 ms of processor time per call instead of 4 ms.
`@serve.batch` closes a batch when its wait is over, even if the previous one is still running. Batches therefore fill
only if the wait is as long as a batch takes, which would delay a single caller. The benchmark sets the wait before each
kind of turn: a call without images whose `model` is the number of seconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import ray
from ray import serve
from ray.serve.config import gRPCOptions
from ray.serve.schema import LoggingConfig
from serving_model import Model, Settings

from voc_cls.v1 import classifier_pb2

QUIET = LoggingConfig(enable_access_log=False)
"""voc-serve logs no calls by default either."""


def application(settings: Settings) -> Any:
    """The deployment, bound to its settings."""

    @serve.deployment(num_replicas=1, max_ongoing_requests=settings.max_waiting, logging_config=QUIET,
                      ray_actor_options={"num_cpus": settings.threads})
    class Classifier:
        def __init__(self) -> None:
            self.model = Model(settings)
            self.model.warm_up(range(1, settings.max_batch_size + 1))
            self.engine = ThreadPoolExecutor(1)

        async def Classify(self, request: classifier_pb2.ClassifyRequest) -> classifier_pb2.ClassifyResponse:
            if not request.pictures:
                self.predict.set_batch_wait_timeout_s(float(request.model))
                return classifier_pb2.ClassifyResponse()
            loop = asyncio.get_running_loop()
            inputs = await loop.run_in_executor(self.model.decoders, self.model.decode, request.pictures[0].content)
            probabilities = await self.predict(inputs)
            labels = [classifier_pb2.ScoredLabel(label=label, probability=probability)
                      for label, probability in self.model.labelled(probabilities).items()]
            return classifier_pb2.ClassifyResponse(
                classifications=[classifier_pb2.Classification(labels=labels)])

        @serve.batch(max_batch_size=settings.max_batch_size, batch_wait_timeout_s=0.01)
        async def predict(self, inputs: list[Any]) -> list[Any]:
            loop = asyncio.get_running_loop()
            return list(await loop.run_in_executor(self.engine, lambda: self.model.predict(np.stack(inputs))))

    return Classifier.bind()


def main(settings: Settings) -> None:
    """Serves until SIGTERM."""
    ray.init(num_cpus=settings.threads, include_dashboard=False, _temp_dir=tempfile.gettempdir())
    serve.start(http_options={"port": free_port()}, grpc_options=gRPCOptions(
        port=settings.port,
        grpc_servicer_functions=["voc_cls.v1.classifier_pb2_grpc.add_ClassifierServicer_to_server"]),
        logging_config=QUIET)
    serve.run(application(settings))
    signal.pause()


def free_port() -> int:
    """For what Ray Serve opens besides the gRPC port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def high_throughput() -> dict[str, str]:
    """Environment of that mode in Ray Serve's guide: HAProxy, which speaks to the replica directly."""
    folder = f"{tempfile.gettempdir()}/haproxy"
    return {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()), "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/metrics.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state"}


if __name__ == "__main__":
    if "RAY_SERVE_ENABLE_HA_PROXY" not in os.environ:  # it counts only before Ray is imported
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **high_throughput()})
    main(Settings.from_json(sys.argv[1]))
