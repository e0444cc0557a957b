"""One model: its versions in memory, and how they follow those on disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from math import inf
from pathlib import Path

from serving.config.models import ModelSettings
from serving.engine.process import EngineLost
from serving.errors import FailedPrecondition, ModelError, NotFound, Unavailable
from serving.models.servable import Loader, Servable
from serving.models.store import version_reader
from serving.models.version_folders import VersionFolders, check_versions
from serving.security.sanitize import printable, without_paths
from serving.telemetry.metrics import LossReason
from voc_cls.errors import VocError

log = logging.getLogger(__name__)

LONGEST_BACKOFF = 60.0
"""Longest time between two attempts to start an engine that keeps ending, seconds."""


class VersionState(IntEnum):
    """State of a version; names and numbers of TensorFlow Serving's ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(eq=False)
class Version:
    """A version that the server has, wants, or could not load."""

    number: int
    folder: Path
    state: VersionState = VersionState.START
    error: str = ""
    """Why it could not be loaded, or why it is being loaded again."""
    labels: tuple[str, ...] = ()
    """Names by which callers may ask for it."""
    kept: bool = False
    """Whether only its labels keep it in memory."""
    servable: Servable | None = None
    """While it is AVAILABLE or UNLOADING, and until one whose engine has ended is closed."""
    users: int = 0
    """Calls that hold it."""
    unused: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the last call that held it has ended."""
    losses: int = 0
    """How often its engine has exited unexpectedly, soon after it was loaded."""
    available_since: float = 0
    """Monotonic time, seconds."""
    not_before: float = 0
    """Monotonic time, seconds, before which it is not loaded again."""

    @property
    def failed(self) -> bool:
        return self.state is VersionState.END and bool(self.error)

    @property
    def reason(self) -> str:
        """`error` for callers, without the server's paths."""
        return without_paths(self.error, self.folder, f"version {self.number}")

    @property
    def status(self) -> dict[str, str]:
        """StatusProto of TensorFlow Serving: UNKNOWN, with the error, for a version that could not be loaded."""
        return {"error_code": "UNKNOWN" if self.failed else "OK", "error_message": self.reason if self.failed else ""}


class Model:
    """A model by its name. ModelRegistry runs only one method that changes versions at a time."""

    def __init__(self, settings: ModelSettings, loader: Loader, answering: Callable[[], bool],
                 on_change: Callable[[], None], before: Model | None = None) -> None:
        """`answering`: whether any model of the server has a version that answers; `on_change`: called whenever a
        version has changed its state; `before`: what this model is to replace. Until it does, both have the versions
        that are loaded already.
        """
        self.settings = settings
        self.versions: dict[int, Version] = {}
        if before is not None and before.settings.folder.resolve() == settings.folder.resolve():
            self.versions = {number: version for number, version in before.versions.items()
                             if version.servable is not None}
        self._folders = VersionFolders(settings.folder, version_reader(settings))
        self._loader, self._answering, self._on_change = loader, answering, on_change
        self.unloaded = False
        """Whether a caller has taken it out of service, until it is loaded again."""
        self._problem = ""
        """Why its folder could not be read at the last look; else empty."""

    @property
    def available(self) -> list[int]:
        """The versions that answer, the highest first."""
        return [number for number, version in sorted(self.versions.items(), reverse=True)
                if version.state is VersionState.AVAILABLE]

    @property
    def next_restart(self) -> float:
        """Monotonic time, seconds, when an engine that keeps ending may be started again; infinity if there is none."""
        now = time.monotonic()
        return min((version.not_before for version in self.versions.values() if version.not_before > now), default=inf)

    @contextlib.contextmanager
    def use(self, version: int | None, label: str) -> Iterator[Servable]:
        """The version that answers a call, kept until the block ends.

        Raises NotFound, Unavailable if trying again helps, FailedPrecondition if the version could not be loaded.
        """
        number = self.choose(version, label)
        answering = self.versions[number]
        if answering.state is not VersionState.AVAILABLE or answering.servable is None:
            which = f" '{printable(label)}'," if label else ""
            which = f"model '{self.settings.name}',{which} version {number}"
            if answering.failed:  # one that has answered before may do so again when its disk is back
                kind = Unavailable if answering.losses else FailedPrecondition
                raise kind(f"{which}, could not be loaded: {answering.reason}")
            why = f" ({answering.reason})" if answering.reason else " yet"
            raise Unavailable(f"{which}, is not ready{why}: try again in a moment",
                              max(1, answering.not_before - time.monotonic()))
        answering.users += 1
        try:
            yield answering.servable
        finally:
            answering.users -= 1
            if not answering.users:
                answering.unused.set()

    def choose(self, version: int | None, label: str) -> int:
        """The version with a number or label, by default the highest that answers. Raises NotFound, Unavailable."""
        name = self.settings.name
        if self.unloaded:
            raise NotFound(f"model '{name}' is unloaded: the operator of this server can load it again")
        if label:
            if label not in self.settings.labels:
                labels = ", ".join(sorted(self.settings.labels)) or "none"
                raise NotFound(f"model '{name}' has no version with the label '{printable(label)}'; its labels: "
                               f"{labels}")
            version = self.settings.labels[label]
        elif version is None:
            # the highest that answers; else one that will, so that its caller learns when; else one that failed
            best = next(iter(self.available), None) or max(self.versions, default=None, key=lambda number: (
                not self.versions[number].failed, number))
            if best is None:
                raise Unavailable(f"model '{name}' is not ready yet: try again in a moment", 1)
            return best
        if version not in self.versions:
            meaning = f", which the label '{label}' stands for" if label else ""
            existing = ", ".join(map(str, sorted(self.versions))) or "none"
            raise NotFound(f"model '{name}' has no version {version}{meaning}; this server has {existing}")
        return version

    async def prepare(self) -> None:
        """Loads what its settings want, and unloads nothing: `load_wanted` follows, or `unload`.

        Folders count as complete. Raises ModelError if the settings name what is not there or cannot be loaded, or
        none of the versions that they want can be.
        """
        name, labels, policy = self.settings.name, self.settings.labels, self.settings.policy
        try:
            await self._folders.look(settled=True)
        except (VocError, OSError) as error:
            reason = without_paths(str(error), self.settings.folder, f"of model '{name}'")
            raise ModelError(str(error), reason) from error
        check_versions(self.settings, self._folders.versions)
        await self._load_missing()
        for label, number in labels.items():
            if number not in self.available:
                which = f"model '{name}': the label '{label}' is version {number}, which is not available: "
                raise ModelError(which + self.versions[number].error, which + self.versions[number].reason)
        if not policy.wanted(self.available):
            newest = self.versions[max(policy.wanted(self._folders.versions))]
            raise ModelError(newest.error, f"model '{name}': {newest.reason}")

    async def follow(self) -> None:
        """Loads and unloads versions until those in memory are the ones on disk that the policy wants.

        A new version is loaded before the one that it replaces is unloaded, and one that cannot be loaded replaces
        none. A folder must be unchanged since the last look, as it may still be being copied.
        """
        problem = ""
        try:
            await self._folders.look(settled=False)
        except (VocError, OSError) as error:
            problem = str(error)
            if problem != self._problem:  # once, not at every look
                log.error("model %s: %s; its versions in memory stay", self.settings.name, problem)
        self._problem = problem
        self._loader.metrics.folder_unreadable(self.settings.name, bool(problem))
        if not problem:
            await self.load_wanted()

    async def load_wanted(self) -> None:
        """What `follow` does, by the folders as they were at the last look."""
        wanted = await self._load_missing()
        replaced = bool(wanted) and all(version.state is VersionState.AVAILABLE for version in wanted)
        by_policy = self.settings.policy.wanted(self._folders.loadable)
        for number, version in list(self.versions.items()):
            version.labels = tuple(label for label, labelled in self.settings.labels.items() if labelled == number)
            kept = bool(version.labels) and number not in by_policy and version.state is VersionState.AVAILABLE
            if kept and not version.kept:
                log.warning("model %s, version %d: %s, but stays in memory, as it has a label; a start would refuse "
                            "that: move the label", self.settings.name, number, "`versions` no longer wants it"
                            if number in self._folders.versions else "it is no longer on disk")
            version.kept = kept
            if version in wanted or kept:
                continue
            if version.servable is None:
                if number in self._folders.loadable or number not in self._folders.versions:
                    del self.versions[number]
            elif replaced or version.state is VersionState.START:  # whose engine has ended
                await self._unload(version)

    async def unload(self, needed: Collection[Version] = ()) -> None:
        """Unloads all versions but those that another model needs."""
        for version in list(self.versions.values()):
            if version not in needed:
                await self._unload(version)

    async def _load_missing(self) -> list[Version]:
        """Loads those wanted versions that may be loaded now; returns all that are wanted."""
        while True:
            wanted = self._wanted()
            due = [version for version in wanted if version.state is not VersionState.AVAILABLE
                   and (version.servable is not None or self._folders.versions[version.number].settled)
                   and time.monotonic() >= version.not_before]
            if not due:
                return wanted
            await self._load_version(due[-1])

    def _wanted(self) -> list[Version]:
        """The versions that are to be in memory, ascending; `versions` has them then."""
        if self.unloaded:
            return []
        loadable = self._folders.loadable
        numbers = {*self.settings.policy.wanted(loadable), *self.settings.labels.values()}.intersection(loadable)
        wanted = []
        for number in sorted(numbers):
            version = self.versions.setdefault(number, Version(number, self._folders.versions[number].path))
            if version.state is VersionState.END:  # its folder has changed since loading failed
                version.state, version.error = VersionState.START, ""
            wanted.append(version)
        return wanted

    async def _load_version(self, version: Version) -> None:
        """Loads a version; it then says why if it could not be loaded."""
        name, number = self.settings.name, version.number
        version.state, version.folder = VersionState.LOADING, self._folders.versions[number].path
        self._on_change()
        try:
            version.servable = await self._loader.load(name, number, version.folder, self._answering(),
                                                       version.servable)
        except asyncio.CancelledError:
            version.state = VersionState.START
            raise
        except Exception as error:
            await self._close(version)  # those who wait for it learn that it does not come
            if version.losses and isinstance(error.__cause__, EngineLost):
                log.error("model %s, version %d: its engine does not start: %s", name, number, error)
                self._start_again(version, "its engine does not start")
            else:
                version.state, version.error = VersionState.END, str(error) or type(error).__name__
                self._folders.versions[number].failed = True
                log.error("model %s, version %d: cannot be loaded: %s", name, number, version.error,
                          exc_info=not isinstance(error, VocError))
        else:
            version.servable.batcher.on_lost = partial(self._engine_ended, version)
            version.servable.batcher.resume()
            version.state, version.available_since, version.error = VersionState.AVAILABLE, time.monotonic(), ""
        self._on_change()

    def _engine_ended(self, version: Version) -> None:
        """Takes a version out of service whose engine has ended, unless it is being unloaded."""
        if version.state is not VersionState.AVAILABLE or version.servable is None:
            return
        what: LossReason = "hung" if version.servable.engine.hung else "ended"
        log.error("model %s, version %d: its engine has ended, it is started again", self.settings.name, version.number)
        self._loader.metrics.engine_lost(self.settings.name, what)
        if time.monotonic() - version.available_since >= LONGEST_BACKOFF:
            version.losses = 0
        self._start_again(version, f"its engine has {what}")
        self._on_change()

    def _start_again(self, version: Version, why: str) -> None:
        """At once the first time, then later and later."""
        version.state, version.error = VersionState.START, why
        version.losses += 1
        wait = min(LONGEST_BACKOFF, 2.0**version.losses) if version.losses > 1 else 0
        version.not_before = time.monotonic() + wait

    async def _unload(self, version: Version) -> None:
        """Takes a version out of service, waits for its calls, and frees its memory."""
        if version.servable is None:
            return
        version.state = VersionState.UNLOADING
        self._on_change()
        await self._close(version)
        version.state = VersionState.END
        del self.versions[version.number]
        self._loader.metrics.forget(self.settings.name, version.number, str(version.folder))
        log.info("model %s, version %d: unloaded", self.settings.name, version.number)
        self._on_change()

    async def _close(self, version: Version) -> None:
        servable = version.servable
        if servable is None:
            return
        servable.batcher.expect_no_other()
        while version.users:
            version.unused.clear()
            await version.unused.wait()
        await servable.close()
        version.servable = None
