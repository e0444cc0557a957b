"""A loaded version of a model: how it is loaded and warmed up, and how it turns images into scores."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from serving.config.config import PicturesConfig, ServeConfig
from serving.engine.batcher import Batcher, batch_sizes
from serving.engine.process import END_SECONDS, EngineProcess, Inputs, Loaded, LoadRequest, Scores
from serving.errors import DeadlineExceeded, ImageDecodeError, InvalidArgument, ServeError
from serving.models.metadata import ModelMetadata, read_metadata
from serving.models.signatures import read_graph
from serving.request_context import RequestContext
from serving.security.limits import Capacity
from serving.telemetry.metrics import Metrics
from voc_cls.image_file import decodable
from voc_cls.image_header import ImageError, image_format, pixels_to_decode

if TYPE_CHECKING:
    from serving.engine.tensorflow import TensorFlowDecoder

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Servable:
    """A version that answers. Errors are those of serving.errors."""

    name: str
    version: int
    metadata: ModelMetadata
    signatures: Mapping[str, Any]
    """signature_def of the SavedModel, as GetModelMetadata returns it."""
    decoder: TensorFlowDecoder
    engine: EngineProcess
    batcher: Batcher
    threads: Executor
    """Decode images, one image at a time, so that a damaged one fails no other caller."""
    capacity: Capacity
    limits: PicturesConfig
    """The largest image that is decoded."""

    async def scores(self, inputs: Sequence[Inputs], request: RequestContext) -> Scores:
        """Preprocessed images, each float32 [size, size, 3] → their scores."""
        scores = await self.batcher.predict(inputs, request)
        return Scores(np.concatenate([score.probabilities for score in scores]),
                      np.concatenate([score.logits for score in scores]))

    async def classify_each(self, images: Sequence[bytes], request: RequestContext) -> list[Scores | ImageError]:
        """Bytes of image files → for each its scores, one row, or why it is not a valid image."""
        with self.capacity.reserve(len(images)):
            decoded = await self._on_threads(self._decode, images, request)
            valid = [result for result in decoded if not isinstance(result, ImageError)]
            scores = iter(await self.batcher.predict(valid, request) if valid else ())
            return [result if isinstance(result, ImageError) else next(scores) for result in decoded]

    async def decode(self, images: Sequence[bytes], field: str, request: RequestContext) -> list[Inputs]:
        """Bytes of image files → what the network takes. InvalidArgument names an invalid image as `field`[index]."""
        decoded = await self._on_threads(self._decode, images, request)
        for index, result in enumerate(decoded):
            if isinstance(result, ImageError):
                raise InvalidArgument(f"{field}[{index}] is {result}")
        return decoded

    async def resize(self, images: npt.NDArray[np.uint8], request: RequestContext) -> list[Inputs]:
        """uint8 [N, H, W, 3] RGB → what the network takes."""
        return await self._on_threads(self.decoder.resize, list(images), request)

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
        self.decoder.close()
        await asyncio.to_thread(self.engine.close)

    def _decode(self, content: bytes) -> Inputs | ImageError:
        try:
            if (size := len(content) / 2**20) > self.limits.max_picture_mb:
                raise ImageError(f"too large: {size:.1f} MiB, this server takes pictures of up to "
                                 f"{self.limits.max_picture_mb:g} (`max_picture_mb`)")
            if (megapixels := pixels_to_decode(content) / 1e6) > self.limits.max_megapixels:
                raise ImageError(f"too large: {megapixels:.1f} megapixels, this server decodes up to "
                                 f"{self.limits.max_megapixels:g} (`max_megapixels`)")
            return self.decoder.decode(decodable(content))
        except ImageDecodeError as error:
            return ImageError(f"a damaged {image_format(content)} picture of {len(content)} bytes: {error}")
        except ImageError as error:
            return error

    async def _on_threads(self, work: Callable[[Item], Any], items: Sequence[Item],
                          request: RequestContext) -> list[Any]:
        """`work` on every item, in the threads; none is begun for a caller whose deadline has passed."""
        loop = asyncio.get_running_loop()

        def timed(item: Item) -> Any:
            begin = time.monotonic()
            if request.deadline is not None and begin >= request.deadline:
                raise DeadlineExceeded("the deadline passed before the picture was decoded")
            result = work(item)
            return result, begin, time.monotonic()

        running = [loop.run_in_executor(self.threads, timed, item) for item in items]
        try:
            done = await asyncio.gather(*running)
        finally:  # those that no thread has begun are not begun in vain
            for future in running:
                future.cancel()
        for _, begin, end in done:
            request.on_stage("decode", begin, end)
        return [result for result, _, _ in done]


@dataclass(frozen=True)
class Loader:
    """Loads versions; what all versions of all models share."""

    config: ServeConfig
    capacity: Capacity
    threads: Executor
    metrics: Metrics
    tensorflow: asyncio.Future[Any]
    """Done when TensorFlow has been imported. Only once, by the server: meanwhile nothing reaches stderr."""
    stderr: int
    """File descriptor of the real stderr, for the engines; also while nothing reaches that."""

    async def load(self, model: str, version: int, folder: Path, background: bool) -> Servable:
        """Loads a version and warms it up; cancelling ends the engine's process. Raises ServeError.

        `background`: use half of the cores only, because another version is answering.
        """
        started = time.monotonic()
        try:
            servable, loaded = await self._load(model, version, folder, background)
        except ServeError:
            self.metrics.load(model, "failed", time.monotonic() - started)
            raise
        seconds = time.monotonic() - started
        self.metrics.load(model, "loaded", seconds)
        self.metrics.warm_up(str(folder), sum(loaded.warm_up_seconds))
        log.info("model %s, version %d: loaded in %.1f s; first batches of %s pictures took %s s", model, version,
                 seconds, " ".join(map(str, servable.batcher.sizes)),
                 " ".join(f"{took:.2f}" for took in loaded.warm_up_seconds))
        return servable

    async def _load(self, model: str, version: int, folder: Path, background: bool) -> tuple[Servable, Loaded]:
        config, metadata = self.config, read_metadata(folder)
        sizes = batch_sizes(config.batching.max_batch_size)
        engine = EngineProcess(LoadRequest(folder.absolute(), config.engine.precision, config.resolved_threads,
                                           metadata.size, len(metadata.labels), sizes, background), self.stderr)
        try:
            await asyncio.shield(self.tensorflow)
            decoder, signatures = await asyncio.to_thread(_load_decoder, folder, config.resolved_threads, metadata.size)
            loaded = await asyncio.to_thread(engine.wait_until_loaded)
        except BaseException:
            await asyncio.to_thread(engine.close)
            raise
        batcher = Batcher(engine.predict, sizes, config.batching.batch_timeout_ms / 1000,
                          partial(self.metrics.batch, model, version), partial(self.metrics.dropped, model))
        return Servable(model, version, metadata, signatures, decoder, engine, batcher, self.threads, self.capacity,
                        config.pictures), loaded


def _load_decoder(folder: Path, threads: int, image_size: int) -> tuple[TensorFlowDecoder, dict[str, object]]:
    """The version's decoder, used once so that no caller waits for its first run, and its signatures."""
    from serving.engine.tensorflow import TensorFlowDecoder

    graph = read_graph(folder)
    decoder = TensorFlowDecoder(graph, threads)
    decoder.resize(np.zeros((image_size, image_size, 3), np.uint8))
    return decoder, dict(graph.signature_def)
