"""One loaded version of a model: from what callers send to scores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from serving.engine.batcher import Batcher
from serving.engine.engine import Decoder, ImageDecodeError, Inputs, Scores
from serving.engine.process import END_SECONDS, EngineProcess
from serving.errors import DeadlineExceeded, InvalidArgument
from serving.models.capacity import Capacity
from serving.models.metadata import ModelMetadata
from serving.request_context import RequestContext
from voc_cls.image_header import ImageError, image_format, pixels_to_decode

Item = TypeVar("Item")


@dataclass(frozen=True)
class ImageLimits:
    """What is decoded at all."""

    pixels: int
    """By the picture's header; --max-megapixels."""
    bytes: int
    """Of the file; --max-picture-mb."""


@dataclass(frozen=True)
class Servable:
    """A version that answers. All refusals are those of serving.errors."""

    name: str
    version: int
    metadata: ModelMetadata
    signatures: Mapping[str, Any]
    """signature_def of the SavedModel, as GetModelMetadata returns it."""
    decoder: Decoder
    engine: EngineProcess
    batcher: Batcher
    decoders: Executor
    """Threads that decode pictures, one picture at a time, so that a broken one fails nobody else."""
    places: Capacity
    limits: ImageLimits

    async def classify(self, pictures: Sequence[bytes], field: str, call: RequestContext) -> Scores:
        """Bytes of picture files → scores, of all or of none: InvalidArgument names a bad picture as `field`[its
        index].
        """
        with self.places.taken_by(len(pictures)):
            return _stacked(await self.batcher.predict(await self._decode_all(pictures, field, call), call))

    async def classify_each(self, pictures: Sequence[bytes], call: RequestContext) -> list[Scores | ImageError]:
        """Bytes of picture files → for each its scores, one row, or why it is no picture."""
        with self.places.taken_by(len(pictures)):
            decoded = await self._on_threads(self._decode, pictures, call)
            readable = [result for result in decoded if not isinstance(result, ImageError)]
            scores = iter(await self.batcher.predict(readable, call) if readable else ())
            return [result if isinstance(result, ImageError) else next(scores) for result in decoded]

    async def preprocess(self, pictures: Sequence[bytes], field: str, call: RequestContext) -> Inputs:
        """Bytes of picture files → float32 [N, size, size, 3], what the network takes."""
        with self.places.taken_by(len(pictures)):
            return np.stack(await self._decode_all(pictures, field, call))

    async def classify_images(self, images: npt.NDArray[np.uint8], call: RequestContext) -> Scores:
        """uint8 [N, H, W, 3] RGB → scores."""
        with self.places.taken_by(len(images)):
            resized = await self._on_threads(self.decoder.resize, list(images), call)
            return _stacked(await self.batcher.predict(resized, call))

    async def classify_tensors(self, inputs: Inputs, call: RequestContext) -> Scores:
        """float32 [N, size, size, 3], preprocessed by the caller → scores."""
        with self.places.taken_by(len(inputs)):
            return _stacked(await self.batcher.predict(list(inputs), call))

    async def close(self) -> None:
        """Finishes the batch that runs, unless the engine is stuck, and gives the memory back."""
        closing = asyncio.ensure_future(self.batcher.close())
        await asyncio.wait({closing}, timeout=END_SECONDS)
        if not closing.done():
            self.engine.kill()
        await closing
        self.decoder.close()
        await asyncio.to_thread(self.engine.close)

    async def _decode_all(self, pictures: Sequence[bytes], field: str, call: RequestContext) -> list[Inputs]:
        decoded = await self._on_threads(self._decode, pictures, call)
        for index, result in enumerate(decoded):
            if isinstance(result, ImageError):
                raise InvalidArgument(f"{field}[{index}] is {result}")
        return decoded

    def _decode(self, content: bytes) -> Inputs | ImageError:
        try:
            if len(content) > self.limits.bytes:
                raise ImageError(f"too large: {len(content) / 2**20:.1f} MiB, this server takes pictures of up to "
                                  f"{self.limits.bytes / 2**20:g} (--max-picture-mb)")
            pixels = pixels_to_decode(content)
            if pixels > self.limits.pixels:
                raise ImageError(f"too large: {pixels / 1e6:.1f} megapixels, this server decodes up to "
                                  f"{self.limits.pixels / 1e6:g} (--max-megapixels)")
            return self.decoder.decode(content)
        except ImageDecodeError as error:
            return ImageError(f"a damaged {image_format(content)} picture of {len(content)} bytes: {error}")
        except ImageError as error:
            return error

    async def _on_threads(self, work: Callable[[Item], Any], items: Sequence[Item], call: RequestContext) -> list[Any]:
        """`work` on every item, in the threads; none is begun for a caller whose deadline has passed."""
        loop = asyncio.get_running_loop()

        def timed(item: Item) -> Any:
            begin = time.monotonic()
            if call.deadline is not None and begin >= call.deadline:
                raise DeadlineExceeded("the deadline passed before the picture was decoded")
            result = work(item)
            return result, begin, time.monotonic()

        waiting = [loop.run_in_executor(self.decoders, timed, item) for item in items]
        try:
            done = await asyncio.gather(*waiting)
        finally:  # those that no thread has begun are not begun for nothing
            for future in waiting:
                future.cancel()
        for _, begin, end in done:
            call.stage("decode", begin, end)
        return [result for result, _, _ in done]


def _stacked(scores: Sequence[Scores]) -> Scores:
    return Scores(np.concatenate([score.probabilities for score in scores]),
                  np.concatenate([score.logits for score in scores]))
