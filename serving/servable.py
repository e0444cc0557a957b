"""One loaded version of a model: from what callers send to scores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from serving.batcher import Batcher
from serving.engine import Engine, Inputs, Scores, UndecodablePicture
from serving.errors import InvalidCall
from serving.metadata import ModelMetadata
from serving.pictures import NotAPicture, picture_format, pixels_to_decode

Item = TypeVar("Item")


@dataclass(frozen=True)
class Servable:
    """A version that answers. `deadline`s are in the event loop's time, None for callers that wait for ever."""

    name: str
    version: int
    metadata: ModelMetadata
    signatures: Mapping[str, Any]
    """signature_def of the SavedModel, as GetModelMetadata returns it."""
    engine: Engine
    batcher: Batcher
    decoders: Executor
    """Threads that decode pictures, one picture at a time, so that a broken one fails nobody else."""
    max_pixels: int

    async def classify(self, pictures: Sequence[bytes], field: str, deadline: float | None) -> Scores:
        """Bytes of picture files → scores. InvalidCall names a bad picture as `field`[its index]."""
        with self.batcher.admitted(len(pictures)):
            return await self.batcher.predict(await self._decode_all(pictures, field), deadline)

    async def preprocess(self, pictures: Sequence[bytes], field: str) -> Inputs:
        """Bytes of picture files → float32 [N, size, size, 3], what the network takes."""
        with self.batcher.admitted(len(pictures)):
            return np.stack(await self._decode_all(pictures, field))

    async def classify_images(self, images: npt.NDArray[np.uint8], deadline: float | None) -> Scores:
        """uint8 [N, H, W, 3] RGB → scores."""
        with self.batcher.admitted(len(images)):
            return await self.batcher.predict(await self._on_threads(self.engine.resize, list(images)), deadline)

    async def classify_tensors(self, inputs: Inputs, deadline: float | None) -> Scores:
        """float32 [N, size, size, 3], preprocessed by the caller → scores."""
        with self.batcher.admitted(len(inputs)):
            return await self.batcher.predict(list(inputs), deadline)

    async def close(self) -> None:
        """Finishes the batch that runs and gives the memory back."""
        await self.batcher.close()
        self.engine.close()

    async def _decode_all(self, pictures: Sequence[bytes], field: str) -> list[Inputs]:
        decoded = await self._on_threads(self._decode, pictures)
        for index, result in enumerate(decoded):
            if isinstance(result, NotAPicture):
                raise InvalidCall(f"{field}[{index}] is {result}")
        return [result for result in decoded if not isinstance(result, NotAPicture)]

    def _decode(self, content: bytes) -> Inputs | NotAPicture:
        try:
            pixels = pixels_to_decode(content)
            if pixels > self.max_pixels:
                raise NotAPicture(f"too large: {pixels / 1e6:.1f} megapixels, this server decodes up to "
                                  f"{self.max_pixels / 1e6:g} (--max-megapixels)")
            return self.engine.decode(content)
        except UndecodablePicture as error:
            return NotAPicture(f"a damaged {picture_format(content)} picture of {len(content)} bytes: {error}")
        except NotAPicture as error:
            return error

    async def _on_threads(self, work: Callable[[Item], Any], items: Sequence[Item]) -> list[Any]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(self.decoders, work, item) for item in items))
