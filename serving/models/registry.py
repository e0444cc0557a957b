"""All models of a server: which there are, who uses them, and one task at a time that changes them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from serving.config.models import ModelSettings
from serving.errors import InvalidArgument, NotFound, ServeError
from serving.models.loader import Loader
from serving.models.model import Model, Version
from serving.models.servable import Servable
from serving.request_context import name_model
from serving.security.sanitize import printable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedVersion:
    """A version that is in memory."""

    servable: Servable
    labels: tuple[str, ...]
    """Names by which callers may ask for it."""


class ModelRegistry:
    """Models by name. Belongs to the event loop."""

    def __init__(self, settings: Sequence[ModelSettings], loader: Loader, root: Path | None = None) -> None:
        """`root`: folder below which `reload` may name models that the server was not started with."""
        self._loader = loader
        self._root = root
        self._models = {one.name: self._model(one) for one in settings}
        self._joining: set[str] = set()
        """Models that a reload is adding: nobody has been promised them yet."""
        self._changing = asyncio.Lock()
        self._reloads: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()
        self._engine_ended = asyncio.Event()
        self._listeners: list[Callable[[], Awaitable[None]]] = []

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(self._models)

    @property
    def ready(self) -> bool:
        """Whether every model has a version that answers."""
        return all(model.available for name, model in self._models.items() if name not in self._joining)

    def ready_model(self, name: str) -> bool:
        """Whether a model has a version that answers; False for unknown ones."""
        return name in self._models and bool(self._models[name].available)

    @contextlib.contextmanager
    def use(self, name: str, version: int | None = None, label: str = "") -> Iterator[Servable]:
        """The version that answers a call, kept in memory until the block ends; "" is the server's only model.

        Raises InvalidArgument, NotFound naming what there is, Unavailable while it loads or stops.
        """
        if version is not None and label:
            raise InvalidArgument(f"both version {version} and label '{printable(label)}' are given: give one of them")
        model = self._get(name)
        name_model(model.settings.name)
        with model.use(version, label) as servable:
            yield servable

    def versions(self, name: str) -> Mapping[int, Version]:
        """The versions of a model that the server knows of; NotFound if there is no such model."""
        return self._get(name).versions

    def on_change(self, listener: Callable[[], Awaitable[None]]) -> None:
        """`listener` is awaited whenever a version has changed its state."""
        self._listeners.append(listener)

    def loaded(self) -> Iterator[tuple[str, int, LoadedVersion]]:
        """(model, version, what is loaded), models in the order they were named, versions ascending."""
        for name, model in self._models.items():
            for number, version in sorted(model.versions.items()):
                if version.servable is not None:
                    yield name, number, LoadedVersion(version.servable, version.labels)

    def engines(self) -> Mapping[tuple[str, int], int]:
        """(model, version) → process id of its engine, for those that are loaded."""
        return {(name, number): version.servable.engine.pid for name, number, version in self.loaded()}

    async def start(self) -> None:
        """Loads what the policies want; ServeError if a model then has no version that answers."""
        async with self._changing:
            for name, model in self._models.items():
                await model.follow(settled=True)
                if not model.available:
                    raise ServeError(_why_not(name, model))

    async def watch(self, seconds: float) -> None:
        """Looks for new and removed versions every so many seconds (0: never) and revives engines; runs for ever."""
        next_look = time.monotonic() + seconds if seconds else inf
        while True:
            wake = min(next_look, *(model.revival for model in self._models.values()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._engine_ended.wait(),
                                       None if wake == inf else max(0.0, wake - time.monotonic()))
            self._engine_ended.clear()
            look = time.monotonic() >= next_look
            async with self._changing:
                for name, model in list(self._models.items()):
                    try:
                        await model.clear_away()
                        await (model.follow(settled=False) if look else model.load_wanted())
                    except Exception:  # or nothing would ever be loaded again
                        log.exception("model %s: its versions could not be brought up to date", name)
            if look:
                next_look = time.monotonic() + seconds

    async def reload(self, settings: Sequence[ModelSettings]) -> None:
        """Serves these models from now on, and no others. Raises InvalidArgument; then what was served still is.

        Goes on to its end though whoever asked for it may have gone.
        """
        self._check(settings)
        task = asyncio.create_task(self._reload(settings))
        self._reloads.add(task)
        task.add_done_callback(self._reloaded)
        await asyncio.shield(task)

    async def close(self) -> None:
        """Unloads everything."""
        for task in self._reloads:
            task.cancel()
        async with self._changing:
            for model in self._models.values():
                await _unload_all(model)

    async def _reload(self, settings: Sequence[ModelSettings]) -> None:
        async with self._changing:
            before = tuple(model.settings for model in self._models.values())
            try:
                await self._serve(settings)
            except InvalidArgument:
                await self._serve(before)
                raise

    def _reloaded(self, task: asyncio.Task[None]) -> None:
        self._reloads.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("another configuration was refused: %s", error)

    async def _serve(self, settings: Sequence[ModelSettings]) -> None:
        """Serves these models and no others; InvalidArgument at the first that cannot be."""
        for one in settings:
            model = self._models.get(one.name)
            if model is None or model.settings.folder.resolve() != one.folder.resolve():
                await self._add(one)
                continue
            model.settings = one
            await model.follow(settled=True)
            if not model.satisfied:
                raise InvalidArgument(_why_not(one.name, model))
        for name in set(self._models) - {one.name for one in settings}:
            await _unload_all(self._models.pop(name))
        await self._changed()

    async def _add(self, settings: ModelSettings) -> None:
        """Adds a model once a version of it answers; one of the same name in another folder answers until then."""
        name, model = settings.name, self._model(settings)
        replaced = self._models.get(name)
        if replaced is None:
            self._joining.add(name)
            self._models[name] = model
        try:
            await model.follow(settled=True)
            if not model.satisfied:
                raise InvalidArgument(_why_not(name, model))
        except BaseException:
            if replaced is None:
                del self._models[name]
            await _unload_all(model)
            raise
        finally:
            self._joining.discard(name)
        self._models[name] = model
        if replaced is not None:
            await _unload_all(replaced)

    def _check(self, settings: Sequence[ModelSettings]) -> None:
        """InvalidArgument unless every model lies where the server may look."""
        if not settings:
            raise InvalidArgument("the new configuration has no models: name at least one")
        roots = [self._root.resolve()] if self._root is not None else []
        for one in settings:
            folder = one.folder.resolve()
            known = [model.settings.folder.resolve() for model in self._models.values()]
            if folder not in known and not any(folder.is_relative_to(root) for root in roots):
                where = f"below {roots[0]}" if roots else "where this server's own models lie (see --models-root)"
                raise InvalidArgument(f"model '{one.name}': base_path {printable(str(one.folder))} is not {where}")

    def _get(self, name: str) -> Model:
        if not name:
            if len(self._models) > 1:
                raise InvalidArgument(f"the name of the model is empty; this server has {self._known()}")
            return next(iter(self._models.values()))
        if name not in self._models:
            raise NotFound(f"no model '{printable(name)}'; this server has {self._known()}")
        return self._models[name]

    def _known(self) -> str:
        return ", ".join(f"'{name}'" for name in sorted(self._models))

    def _model(self, settings: ModelSettings) -> Model:
        async def load(name: str, number: int, folder: Path) -> Servable:
            servable = await self._loader.load(name, number, folder, modest=self._any_available)
            servable.engine.on_end(lambda: self._on_engine_end(model, number, servable))
            return servable

        model = Model(settings, load, self._changed, self._loader.metrics)
        return model

    def _on_engine_end(self, model: Model, number: int, servable: Servable) -> None:
        """Takes the version out of service at once; `watch`, which may be busy loading another, does the rest."""
        model.engine_ended(number, servable)
        self._engine_ended.set()
        telling = asyncio.create_task(self._changed())
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    @property
    def _any_available(self) -> bool:
        return any(model.available for model in self._models.values())

    async def _changed(self) -> None:
        self._loader.metrics.serve(self.names)
        for listener in self._listeners:
            await listener()


async def _unload_all(model: Model) -> None:
    for number in list(model.versions):
        await model.unload(number)


def _why_not(name: str, model: Model) -> str:
    errors = [version.error for number, version in sorted(model.versions.items(), reverse=True)
              if version.failed and model.settings.policy.wanted([number])]
    return model.problem or (errors[0] if errors else f"model '{name}': none of its versions on disk is wanted "
                                                      f"({model.settings.policy}): see --versions")
