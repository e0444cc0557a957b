"""From a version's folder to a servable that is warmed up for every batch size."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.config.config import ServeConfig
from serving.engine.batcher import Batcher, batch_sizes
from serving.engine.engine import Decoder
from serving.engine.messages import Loaded
from serving.engine.process import EngineProcess
from serving.errors import ServeError
from serving.models.capacity import Capacity
from serving.models.metadata import read_metadata
from serving.models.servable import ImageLimits, Servable
from serving.telemetry.metrics import Metrics, VersionMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loader:
    """What all versions of all models share."""

    config: ServeConfig
    places: Capacity
    decoders: Executor
    metrics: Metrics
    tensorflow: asyncio.Future[Any]
    """Done when TensorFlow has been imported. Only once and by one: meanwhile nothing reaches stderr."""

    async def load(self, model: str, version: int, folder: Path, modest: bool) -> Servable:
        """Loads a version and warms it up; ServeError if it cannot be.

        `modest`: on half of the cores, because another version is answering. Cancelling ends the engine's process.
        """
        started = time.monotonic()
        try:
            servable, ready = await self._load(model, version, folder, modest)
        except ServeError:
            self.metrics.load(model, "failed", time.monotonic() - started)
            raise
        seconds = time.monotonic() - started
        self.metrics.load(model, "loaded", seconds)
        self.metrics.warm_up(str(folder), sum(ready.warm_up_seconds))
        log.info("model %s, version %d: loaded in %.1f s; first batches of %s pictures took %s s", model, version,
                 seconds, " ".join(map(str, servable.batcher.sizes)),
                 " ".join(f"{took:.2f}" for took in ready.warm_up_seconds))
        return servable

    async def _load(self, model: str, version: int, folder: Path, modest: bool) -> tuple[Servable, Loaded]:
        config, metadata = self.config, read_metadata(folder)
        sizes = batch_sizes(config.batching.max_batch_size)
        engine = EngineProcess(folder, metadata, config, sizes, modest)
        try:
            await asyncio.shield(self.tensorflow)
            decoder, signatures = await asyncio.to_thread(_decoder, folder, config.resolved_threads, metadata.size)
            ready = await asyncio.to_thread(engine.wait_until_ready)
        except BaseException:
            await asyncio.to_thread(engine.close)
            raise
        batcher = Batcher(engine.predict, sizes, config.batching.batch_timeout_ms / 1000,
                          VersionMetrics(self.metrics, model, version))
        limits = ImageLimits(config.max_pixels, int(config.pictures.max_picture_mb * 2**20))
        return Servable(model, version, metadata, signatures, decoder, engine, batcher, self.decoders, self.places,
                        limits), ready


def _decoder(folder: Path, threads: int, size: int) -> tuple[Decoder, dict[str, object]]:
    """The version's decoder, used once so that no caller pays for the first time, and its signatures."""
    from serving.engine.tensorflow_decoder import TensorFlowDecoder
    from serving.grpc.tensor_proto import read_graph

    graph = read_graph(folder)
    decoder = TensorFlowDecoder(graph, threads)
    decoder.resize(np.zeros((size, size, 3), np.uint8))
    return decoder, dict(graph.signature_def)
