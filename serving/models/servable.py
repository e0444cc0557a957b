"""A loaded version of a model: how it is loaded and warmed up, and how it turns images into scores."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from serving.config.config import ServeConfig
from serving.decoding.pool import DecoderPool
from serving.engine.batcher import Batcher, batch_sizes
from serving.engine.process import END_SECONDS, EngineProcess, Inputs, LoadRequest, Scores, joined
from serving.errors import FailedPrecondition, InvalidArgument, ServeError
from serving.models.signatures import read_signatures
from serving.models.version_folders import FORMS, choose_engine
from serving.request_context import RequestContext
from serving.security.limits import Capacity
from serving.telemetry.metrics import Metrics
from voc_cls.errors import VocError
from voc_cls.image_header import ImageError
from voc_cls.model_metadata import EXPORT_AGAIN, ModelMetadata, Views, read_metadata

log = logging.getLogger(__name__)

Result = TypeVar("Result")
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda logits: (1 + np.tanh(logits / 2)) / 2,  # which does not overflow
    "softmax": lambda logits: np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))}
"""By ModelMetadata.activation: logits [N, C] → probabilities, where the engine's graph cannot do it."""


@dataclass(frozen=True)
class Servable:
    """A version that answers. Errors are those of serving.errors."""

    name: str
    version: int
    metadata: ModelMetadata
    signatures: Any
    """SignatureDefMap, as GetModelMetadata returns it."""
    decoders: DecoderPool
    engine: EngineProcess
    batcher: Batcher
    threads: Executor
    """Read and write what would hold up the event loop."""
    capacity: Capacity

    async def scores(self, inputs: Sequence[Inputs], request: RequestContext, explain: bool = False) -> Scores:
        """Preprocessed images, each float32 [size, size, 3] → their scores; with `explain` all outputs."""
        return joined(await self.batcher.predict(inputs, request, explain))

    async def augmented(self, images: Sequence[bytes], field: str, request: RequestContext) -> Scores:
        """Image files → the mean of the logits over the model's views of each, and its probabilities.

        Each view takes a place, and is one image to the engine. InvalidArgument as from `decode`.
        """
        views = self.metadata.augmented or Views((self.metadata.preprocessing.size,))
        with self.capacity.reserve(len(images) * views.number, f" in {views.number} views each"):
            inputs = [image for size in views.sizes for image in await self.decode(images, field, request, size)]
            mirrored = [image[:, ::-1] for image in inputs] if views.mirrored else []
            scores = await self.scores([*inputs, *mirrored], request)
        logits = scores.logits.reshape(views.number, len(images), -1).mean(axis=0)
        return Scores(ACTIVATIONS[self.metadata.activation](logits), logits)

    async def classify_each(self, images: Sequence[bytes], request: RequestContext, explain: bool = False
                            ) -> list[Scores | ImageError]:
        """Bytes of image files → for each its scores, one row, with `explain` all outputs, or why it is not a valid
        image."""
        if explain and not self.metadata.explains:
            raise FailedPrecondition(f"version {self.version} of model '{self.name}' {EXPORT_AGAIN}")
        with self.capacity.reserve(len(images)):
            decoded = await self._decoded(images, request)
            valid = [result for result in decoded if not isinstance(result, ImageError)]
            scores = iter(await self.batcher.predict(valid, request, explain) if valid else ())
            return [result if isinstance(result, ImageError) else next(scores) for result in decoded]

    async def decode(self, images: Sequence[bytes | npt.NDArray[np.uint8]], field: str,
                     request: RequestContext, size: int | None = None) -> list[Inputs]:
        """Image files, or decoded images, uint8 [H, W, 3] RGB → what the network takes, in its own size or another.

        InvalidArgument names an invalid image as `field`[index].
        """
        inputs = []
        for index, result in enumerate(await self._decoded(images, request, size)):
            if isinstance(result, ImageError):
                raise InvalidArgument(f"{field}[{index}] is {result}")
            inputs.append(result)
        return inputs

    async def _decoded(self, images: Sequence[bytes | npt.NDArray[np.uint8]],
                       request: RequestContext, size: int | None = None) -> list[Inputs | ImageError]:
        wanted = self.metadata.preprocessing if size is None else replace(self.metadata.preprocessing, size=size)
        with self.batcher.expecting(len(images)):
            return await self.decoders.decode(images, wanted, request)

    async def on_thread(self, work: Callable[..., Result], *args: Any) -> Result:
        """Reads or writes what would hold up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *args)

    async def close(self) -> None:
        """Finishes the running batch, unless the engine is stuck, and frees the memory."""
        closing = asyncio.ensure_future(self.batcher.close())
        await asyncio.wait({closing}, timeout=END_SECONDS)
        if not closing.done():
            self.engine.kill()
        await closing
        await asyncio.to_thread(self.engine.close)

@dataclass(frozen=True)
class Loader:
    """Loads versions; what all versions of all models share."""

    config: ServeConfig
    capacity: Capacity
    decoders: DecoderPool
    threads: Executor
    metrics: Metrics

    async def load(self, model: str, version: int, folder: Path, background: bool, ended: Servable | None) -> Servable:
        """Loads a version and warms it up; cancelling ends the engine's process. Raises ServeError.

        `background`: use half of the cores only, because another version is answering. `ended`: this version, if it is
        there but for its engine; then it only gets another, and its batcher waits for `resume`.
        """
        started = time.monotonic()
        try:
            servable = await (self._load(model, version, folder, background) if ended is None
                              else self._restart(ended, folder, background))
        except VocError:
            self.metrics.load(model, "failed", time.monotonic() - started)
            raise
        seconds = time.monotonic() - started
        self.metrics.load(model, "loaded", seconds)
        self.metrics.warm_up(str(folder), sum(servable.engine.warm_up_seconds))
        log.info("model %s, version %d: loaded in %.1f s by %s (%s); first batches of %s pictures took %s s", model,
                 version, seconds, servable.engine.description, servable.engine.request.why,
                 " ".join(map(str, servable.batcher.sizes)),
                 " ".join(f"{took:.2f}" for took in servable.engine.warm_up_seconds))
        return servable

    async def _restart(self, servable: Servable, folder: Path, background: bool) -> Servable:
        engine = servable.engine
        await asyncio.to_thread(engine.close)
        if read_metadata(folder).as_form(FORMS[engine.request.engine].name) != servable.metadata:
            raise ServeError(f"{folder} is another model than when it was loaded: give a changed model a new version")
        engine.start(replace(engine.request, background=background))
        try:
            await asyncio.to_thread(engine.wait_until_loaded)
        except BaseException:
            await asyncio.to_thread(engine.close)
            raise
        servable.batcher.sizes = engine.batch_sizes
        return servable

    async def _load(self, model: str, version: int, folder: Path, background: bool) -> Servable:
        config, metadata = self.config, read_metadata(folder)
        sizes = batch_sizes(config.batching.max_batch_size)
        name, why = choose_engine(config.engine.engine, folder)
        engine = EngineProcess(LoadRequest(folder.absolute(), config.engine.precision, config.resolved_threads,
                                           metadata.preprocessing.size, len(metadata.labels), sizes, background, name,
                                           why, metadata.augmented.sizes[1:] if metadata.augmented else ()),
                               config.engine.engine_timeout)
        try:
            await self.decoders.started()
            signatures = await asyncio.to_thread(read_signatures, folder, metadata)
            await asyncio.to_thread(engine.wait_until_loaded)
        except BaseException:
            await asyncio.to_thread(engine.close)
            raise
        batcher = Batcher(engine.predict, engine.batch_sizes, config.batching.batch_timeout_ms / 1000,
                          partial(self.metrics.batch, model, version), partial(self.metrics.dropped, model))
        return Servable(model, version, metadata.as_form(FORMS[name].name), signatures, self.decoders,
                        engine, batcher, self.threads, self.capacity)
