"""All models of a server: finding the version that answers a call, and one task at a time that changes versions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from math import inf
from pathlib import Path

from serving.config.models import ModelSettings
from serving.errors import FailedPrecondition, InvalidArgument, ModelError, NotFound, StatusError
from serving.models.model import Model, Version
from serving.models.servable import Loader, Servable
from serving.request_context import current_request
from serving.security.sanitize import is_safe_name, printable
from voc_cls.stores import store_url

log = logging.getLogger(__name__)


class ModelRegistry:
    """Models by name. Belongs to the event loop."""

    def __init__(self, settings: Sequence[ModelSettings], loader: Loader, root: Path | None = None) -> None:
        """`root`: folder below which `reload` may name models that the server was not started with."""
        self._loader = loader
        self._root = root
        self._models = {model.name: self._model(model) for model in settings}
        self._open = False
        self._changing = asyncio.Lock()
        self._reloads: set[asyncio.Task[StatusError | None]] = set()
        self._wake = asyncio.Event()
        """Set when a version has changed its state: its engine may have ended."""
        self._listeners: list[Callable[[], None]] = []

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._models)

    def open(self, answering: bool) -> None:
        """Whether the server answers calls: not yet while it starts, no longer when it stops."""
        self._open = answering
        self._changed()

    @property
    def ready(self) -> bool:
        """Whether the server answers calls and every model has a version for them."""
        models = [model for model in self._models.values() if not model.unloaded]
        return self._open and bool(models) and all(model.available for model in models)

    def ready_model(self, name: str) -> bool:
        """Whether the server answers calls and this model has a version for them."""
        return self._open and bool(self._models[name].available)

    @contextlib.contextmanager
    def use(self, name: str, version: int | None = None, label: str = "") -> Iterator[Servable]:
        """The version that answers a call, kept in memory until the block ends; "" is the server's only model.

        Raises InvalidArgument, NotFound listing what exists, Unavailable while it loads or stops.
        """
        if version is not None and label:
            raise InvalidArgument(f"both version {version} and label '{printable(label)}' are given: give one of them")
        model = self._get(name)
        if (request := current_request.get(None)) is not None:
            request.model = model.settings.name
        with model.use(version, label) as servable:
            yield servable

    def on_change(self, listener: Callable[[], None]) -> None:
        """`listener` is called whenever a version has changed its state."""
        self._listeners.append(listener)

    def versions(self, name: str, version: int | None = None, label: str = "") -> dict[int, Version]:
        """A model's versions, ascending, or only the one with a number or label.

        "" is the server's only model. Raises NotFound listing what exists.
        """
        model = self._get(name)
        if version is None and not label:
            return dict(sorted(model.versions.items()))
        number = model.choose(version, label)
        return {number: model.versions[number]}

    def loaded(self) -> Iterator[tuple[Servable, tuple[str, ...]]]:
        """(version in memory, its labels), models in the order they were named, versions ascending."""
        for model in self._models.values():
            for _, version in sorted(model.versions.items()):
                if version.servable is not None:
                    yield version.servable, version.labels

    async def start(self) -> None:
        """Loads the wanted versions; ServeError if a model then has none that answers."""
        async with self._changing:
            for model in self._models.values():
                await model.prepare()
                await model.load_wanted()

    async def watch(self, seconds: float) -> None:
        """Looks for new and removed versions every `seconds` (0: never) and restarts engines; runs until it is
        cancelled.
        """
        next_look = time.monotonic() + seconds if seconds else inf
        try:
            while True:
                wake = min(next_look, *(model.next_restart for model in self._models.values()))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(),
                                           None if wake == inf else max(0.0, wake - time.monotonic()))
                self._wake.clear()
                look = time.monotonic() >= next_look
                async with self._changing:
                    for name, model in list(self._models.items()):
                        try:
                            await (model.follow() if look else model.load_wanted())
                        except Exception:  # or no version would ever be loaded again
                            log.exception("model %s: its versions could not be brought up to date", name)
                if look:
                    next_look = time.monotonic() + seconds
        finally:
            for servable, _ in self.loaded():
                servable.batcher.expect_no_other()

    async def reload(self, settings: Sequence[ModelSettings], by_operator: bool = False) -> None:
        """Serves these models from now on, and no others; completes even if the caller has gone.

        Raises InvalidArgument or FailedPrecondition; then nothing has changed. `by_operator`: whose models may be in
        any folder.
        """
        await self._complete("reload", lambda: self._serve(settings, only=True, anywhere=by_operator))

    async def _complete(self, what: str, change: Callable[[], Awaitable[None]]) -> None:
        """Runs it to its end even if the caller has gone, and logs what has come of it."""
        task = asyncio.create_task(self._logged(what, change))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)
        if refusal := await asyncio.shield(task):
            raise refusal

    async def _logged(self, what: str, change: Callable[[], Awaitable[None]]) -> StatusError | None:
        request = current_request.get(None)
        who = f"{request.client} by {request.method}" if request is not None else "SIGHUP"
        async with self._changing:
            before = self._descriptions()
            try:
                await change()
            except (StatusError, ModelError) as error:
                log.warning("%s for %s refused, nothing has changed: %s", what, who, error)
                return error if isinstance(error, StatusError) else FailedPrecondition(error.reason)
            after = self._descriptions()
            changes = [f"model {name}: {before.get(name, 'not served')} → {after.get(name, 'not served')}"
                       for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
            log.info("%s for %s: %s", what, who, "; ".join(changes) or "the same models")
            return None

    def _descriptions(self) -> dict[str, str]:
        """What is served, by the name of the model."""
        return {name: "unloaded" if model.unloaded else (
                    f"{store_url(model.settings.folder) or model.settings.folder}, versions {model.settings.policy}"
                    + "".join(f" {label}={number}" for label, number in sorted(model.settings.labels.items())))
                for name, model in self._models.items()}

    async def load(self, name: str) -> None:
        """Serves a model again, or one in a folder below the root, or looks for new versions; as `reload`."""
        if name in self._models:
            settings = self._models[name].settings
        elif self._root is not None and is_safe_name(name) and (self._root / name).is_dir():
            settings = ModelSettings(name, self._root / name)
        else:
            raise NotFound(f"no model '{printable(name)}' to load; this server has {self._known()}, and those below "
                           "its `models_root`, if it has one")
        await self._complete(f"load of model {name}", lambda: self._serve([settings], only=False))

    async def unload(self, name: str) -> None:
        """Serves a model no longer, but remembers it for `load`; completes even if the caller has gone."""
        model = self._get(name)
        await self._complete(f"unload of model {model.settings.name}", lambda: self._unload(model))

    async def close(self) -> None:
        for task in self._reloads:
            task.cancel()
        async with self._changing:
            for model in self._models.values():
                await model.unload()

    async def _unload(self, model: Model) -> None:
        model.unloaded = True
        await model.unload()
        self._changed()

    async def _serve(self, settings: Sequence[ModelSettings], only: bool, anywhere: bool = False) -> None:
        """Serves these models, and, if `only`, no others.

        Everything is loaded beside what answers before anything changes. Raises InvalidArgument or ModelError.
        """
        if not anywhere:
            self._check(settings)
        coming: dict[str, Model] = {}
        try:
            for wanted in settings:
                coming[wanted.name] = self._model(wanted, self._models.get(wanted.name))
                await coming[wanted.name].prepare()
        except BaseException:
            gone = coming
            raise
        else:
            gone, self._models = self._models, {**({} if only else self._models), **coming}
            self._changed()
            for model in coming.values():
                await model.load_wanted()
        finally:
            needed = [version for model in self._models.values() for version in model.versions.values()]
            for model in gone.values():
                await model.unload(needed)
            self._changed()

    def _check(self, settings: Sequence[ModelSettings]) -> None:
        """InvalidArgument unless every model is in a folder that callers may name."""
        if not settings:
            raise InvalidArgument("the new configuration has no models: name at least one")
        root = self._root.resolve() if self._root is not None else None
        for wanted in settings:
            folder = wanted.folder.resolve()
            known = [model.settings.folder.resolve() for model in self._models.values()]
            if folder not in known and (root is None or store_url(wanted.folder) or not folder.is_relative_to(root)):
                raise InvalidArgument(f"model '{wanted.name}': base_path {printable(str(wanted.folder))} is neither "
                                      "the folder of a model of this server nor below its `models_root`")

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

    def _model(self, settings: ModelSettings, before: Model | None = None) -> Model:
        self._loader.metrics.serve([settings.name])
        return Model(settings, self._loader, lambda: any(model.available for model in self._models.values()),
                     self._changed, before)

    def _changed(self) -> None:
        self._wake.set()
        for listener in self._listeners:
            listener()
