"""The versions of the served model: which exist, in what state each is, and which one answers."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np

from serving.batcher import Batcher
from serving.config import ServeConfig
from serving.engine import Engine
from serving.errors import NotFound, NotReady, ServeError
from serving.metadata import read_metadata
from serving.servable import Servable


class State(IntEnum):
    """Where a version is in its life; names and numbers of TensorFlow Serving's ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class Version:
    """A version that the server knows of."""

    state: State = State.START
    error: str = ""
    """Why it could not be loaded."""
    servable: Servable | None = None
    """Only while it is AVAILABLE or UNLOADING."""


class Models:
    """One model by name; its highest version that is AVAILABLE answers."""

    def __init__(self, name: str, config: ServeConfig, decoders: Executor) -> None:
        self.name = name
        self.versions: dict[int, Version] = {}
        self._config = config
        self._decoders = decoders

    def get(self, name: str, version: int | None = None) -> Servable:
        """The version that answers a call. Raises NotFound naming what there is, NotReady while it loads or stops."""
        if name != self.name:
            raise NotFound(f"no model '{name}'; this server has '{self.name}'")
        if version is not None and version not in self.versions:
            known = ", ".join(map(str, sorted(self.versions))) or "none"
            raise NotFound(f"model '{self.name}' has no version {version}; this server has {known}")
        for number in sorted(self.versions, reverse=True) if version is None else [version]:
            servable = self.versions[number].servable
            if self.versions[number].state is State.AVAILABLE and servable is not None:
                return servable
        which = "" if version is None else f" version {version}"
        raise NotReady(f"model '{self.name}'{which} is not ready yet: try again in a moment")

    @property
    def available(self) -> bool:
        """Whether some version answers."""
        return any(version.state is State.AVAILABLE for version in self.versions.values())

    async def load(self, number: int, folder: Path) -> Servable:
        """Loads a version and warms up every batch size before it becomes AVAILABLE; ServeError if it cannot be."""
        version = self.versions.setdefault(number, Version())
        version.state = State.LOADING
        try:
            version.servable = await self._load(number, folder)
        except ServeError as error:
            version.state, version.error = State.END, str(error)
            raise
        version.state = State.AVAILABLE
        return version.servable

    async def unload(self, number: int) -> None:
        """Lets a version answer no more calls and gives its memory back; the calls that have it must be over."""
        version = self.versions[number]
        if version.servable is not None:
            version.state = State.UNLOADING
            await version.servable.close()
        version.state, version.servable = State.END, None

    async def _load(self, number: int, folder: Path) -> Servable:
        from serving.signatures import read_signatures

        loop, config = asyncio.get_running_loop(), self._config
        metadata = read_metadata(folder)
        signatures = read_signatures(folder)
        engine = await loop.run_in_executor(self._decoders, _load_engine, folder, config)
        batcher = Batcher(engine.predict, config.max_batch_size, config.queue_size)
        try:
            await loop.run_in_executor(self._decoders, _warm_up, engine, batcher.sizes, metadata.size, folder,
                                       len(metadata.labels))
        except ServeError:
            await batcher.close()
            engine.close()
            raise
        return Servable(self.name, number, metadata, signatures, engine, batcher, self._decoders, config.max_pixels)


def _load_engine(folder: Path, config: ServeConfig) -> Engine:
    from serving.tensorflow_engine import Precision, TensorFlowEngine

    return TensorFlowEngine(folder, Precision(config.precision), config.resolved_threads)


def _warm_up(engine: Engine, sizes: tuple[int, ...], size: int, folder: Path, labels: int) -> None:
    """Runs each batch size once, and the decoder, so that no caller pays for what an engine does the first time."""
    inputs = engine.resize(np.zeros((size, size, 3), np.uint8))
    for batch in sizes:
        columns = engine.predict(np.stack([inputs] * batch)).probabilities.shape[1]
        if columns != labels:
            raise ServeError(f"{folder} answers {columns} probabilities but names {labels} labels in "
                             "assets/voc_cls.json: export the model again with voc-export")
