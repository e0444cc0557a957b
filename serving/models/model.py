"""One model: its versions in memory, and how they follow those on disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from pathlib import Path

from serving.config.models import ModelSettings
from serving.engine.process import EngineLost
from serving.errors import FailedPrecondition, ModelError, NotFound, ServeError, Unavailable
from serving.models.servable import Servable
from serving.models.version_folders import VersionFolders, check_versions
from serving.security.sanitize import printable, without_paths
from serving.telemetry.metrics import Metrics

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


@dataclass
class Version:
    """A version that the server has, wants, or could not load."""

    state: VersionState = VersionState.START
    error: str = ""
    """Why it could not be loaded, or why it is being loaded again."""
    reason: str = ""
    """The same for callers, without the server's paths."""
    labels: tuple[str, ...] = ()
    """Names by which callers may ask for it."""
    folder: Path | None = None
    """Where it was loaded from."""
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
    def status(self) -> dict[str, str]:
        """StatusProto of TensorFlow Serving: UNKNOWN, with the error, for a version that could not be loaded."""
        return {"error_code": "UNKNOWN" if self.failed else "OK", "error_message": self.reason if self.failed else ""}


Load = Callable[[str, int, Path, Servable | None], Awaitable[Servable]]
"""(model, version, its folder, the version if only its engine has ended) → servable; ServeError."""


class Model:
    """A model by its name. ModelRegistry runs only one method that changes versions at a time."""

    def __init__(self, settings: ModelSettings, load: Load, on_change: Callable[[], None],
                 metrics: Metrics) -> None:
        self.settings = settings
        self.versions: dict[int, Version] = {}
        self._folders = VersionFolders(settings.folder)
        self._load = load
        self._on_change = on_change
        self._metrics = metrics
        self.unloaded = False
        """Whether a caller has taken it out of service, until it is loaded again."""
        self.problem = ""
        """Why its folder could not be read at the last look; else empty."""
        self._coming: ModelSettings | None = None
        """What `prepare` loads versions for."""
        self._unseen: frozenset[int] = frozenset()
        """Versions that `prepare` loads: a call that names none does not get them yet."""
        self._told: set[int] = set()
        """Versions of which the log says that only their label keeps them."""

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
        name, existing = self.settings.name, ", ".join(map(str, sorted(self.versions))) or "none"
        if self.unloaded:
            raise NotFound(f"model '{name}' is unloaded: the operator of this server can load it again")
        if label:
            if label not in self.settings.labels:
                labels = ", ".join(sorted(self.settings.labels)) or "none"
                raise NotFound(f"model '{name}' has no version with the label '{printable(label)}'; its labels: "
                               f"{labels}")
            version = self.settings.labels[label]
            if version not in self.versions:
                raise NotFound(f"model '{name}' has no version {version}, which the label '{label}' stands for; this "
                               f"server has {existing}")
            return version
        if version is None:
            # the highest that answers; else one that will, so that its caller learns when; else one that failed
            best = max(self.versions, default=None, key=lambda number: (
                number in self.available and number not in self._unseen, not self.versions[number].failed, number))
            if best is None:
                raise Unavailable(f"model '{name}' is not ready yet: try again in a moment", 1)
            return best
        if version not in self.versions:
            raise NotFound(f"model '{name}' has no version {version}; this server has {existing}")
        return version

    async def prepare(self, settings: ModelSettings) -> None:
        """Loads what other settings want, beside what is served; then `adopt` or `abandon` follows.

        Raises ModelError if these settings name what is not there, or could not be loaded.
        """
        self._coming = settings
        await self._look(settled=True)
        if self.problem:
            raise ModelError(self.problem, without_paths(self.problem, settings.folder, f"of model '{settings.name}'"))
        check_versions(settings, self._folders.on_disk)
        self._unseen = frozenset(self._folders.loadable).difference(self.available)
        await self.load_wanted()
        self.check(settings)

    def adopt(self) -> None:
        """The prepared settings are those of the model from now on; `load_wanted` unloads what they do not want."""
        if self._coming is not None:
            self.settings, self.unloaded = self._coming, False
        self.abandon()
        self._told.clear()

    def abandon(self) -> None:
        """The prepared settings are forgotten; `load_wanted` unloads what only they wanted."""
        self._coming, self._unseen = None, frozenset()

    def check(self, settings: ModelSettings) -> None:
        """ModelError unless a version that the settings want answers, and those of all labels."""
        for label, number in settings.labels.items():
            version = self.versions.get(number, Version())
            if version.state is not VersionState.AVAILABLE:
                which = f"model '{settings.name}': the label '{label}' is version {number}, which is not available: "
                raise ModelError(which + (version.error or "not on disk"), which + (version.reason or "not on disk"))
        if not settings.policy.wanted(self.available):
            errors = [version for number, version in sorted(self.versions.items(), reverse=True)
                      if version.error and settings.policy.wanted([number])]
            if errors:
                raise ModelError(errors[0].error, f"model '{settings.name}': {errors[0].reason}")
            raise ModelError(self.problem or f"model '{settings.name}': none of its versions on disk is wanted "
                                             f"({settings.policy}): see `versions`")

    async def follow(self, settled: bool) -> None:
        """Loads and unloads versions until those in memory are the ones on disk that the policy wants.

        A new version is loaded before the one that it replaces is unloaded, and one that cannot be loaded replaces
        none. `settled`: folders that were not there before count as complete; else a folder must be unchanged since
        the last look, as it may still be being copied.
        """
        await self._look(settled)
        if not self.problem:
            await self.load_wanted()

    async def _look(self, settled: bool) -> None:
        problem = ""
        try:
            await self._folders.look(settled)
        except (ServeError, OSError) as error:
            problem = str(error)
            if problem != self.problem:  # once, not at every look
                log.error("model %s: %s; its versions in memory stay", self.settings.name, problem)
        self.problem = problem

    async def load_wanted(self) -> None:
        """What `follow` does, by the folders as they were at the last look."""
        while True:
            wanted = self._wanted()
            for number, version in list(self.versions.items()):
                if version.state is VersionState.START and number not in wanted:  # its engine has ended
                    await self._close(version)
            missing = [number for number in reversed(wanted)
                       if self.versions[number].state is not VersionState.AVAILABLE]
            due = [number for number in missing if self._due(number)]
            if not due:
                break
            await self._load_version(due[0])
        labelled = set(self.settings.labels.values())
        for number in labelled.intersection(self.available) - set(self._policy_wants(self.settings)) - self._told:
            self._told.add(number)
            log.warning("model %s, version %d: %s, but stays in memory, as it has a label; a start would refuse that: "
                        "move the label", self.settings.name, number, "`versions` no longer wants it"
                        if number in self._folders.on_disk else "it is no longer on disk")
        if wanted and not missing:
            for number in self.available:
                if number not in wanted and (number not in labelled or self.unloaded):
                    await self.unload(number)
            self._wanted()  # forgets those

    async def unload(self, number: int) -> None:
        """Takes a version out of service, waits for its calls, and frees its memory."""
        version = self.versions[number]
        if version.servable is None:
            return
        version.state = VersionState.UNLOADING
        self._on_change()
        await self._close(version)
        version.state = VersionState.END
        self._metrics.forget(self.settings.name, number, str(version.folder))
        log.info("model %s, version %d: unloaded", self.settings.name, number)
        self._on_change()

    def engine_ended(self, number: int, servable: Servable) -> None:
        """Takes a version out of service whose engine has ended, unless it was being unloaded."""
        version = self.versions.get(number)
        if version is None or version.servable is not servable or version.state is not VersionState.AVAILABLE:
            return
        log.error("model %s, version %d: its engine has ended, it is started again", self.settings.name, number)
        self._metrics.engine_lost(self.settings.name, "hung" if servable.engine.hung else "ended")
        if time.monotonic() - version.available_since >= LONGEST_BACKOFF:
            version.losses = 0
        self._start_again(version, "its engine has hung" if servable.engine.hung else "its engine has ended")

    def _start_again(self, version: Version, why: str) -> None:
        """At once the first time, then later and later."""
        version.state, version.error, version.reason = VersionState.START, why, why
        version.losses += 1
        wait = min(LONGEST_BACKOFF, 2.0**version.losses) if version.losses > 1 else 0
        version.not_before = time.monotonic() + wait

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

    def _policy_wants(self, settings: ModelSettings) -> tuple[int, ...]:
        return settings.policy.wanted(self._folders.loadable)

    def _wanted(self) -> list[int]:
        """The versions that are to be in memory, ascending; updates `versions` by them."""
        served = () if self.unloaded else (self.settings,)
        wanted = sorted({number for settings in (*served, self._coming) if settings is not None
                         for number in (*self._policy_wants(settings), *settings.labels.values())
                         if number in self._folders.loadable})
        for number in wanted:
            version = self.versions.setdefault(number, Version())
            if version.state is VersionState.END:  # unloaded, or its folder has changed since loading failed
                version.state, version.error, version.reason = VersionState.START, "", ""
        for number, version in list(self.versions.items()):
            version.labels = tuple(label for label, labelled in self.settings.labels.items()
                                   if labelled == number)
            if version.servable is None and number not in wanted and not self._folders.failed(number):
                del self.versions[number]
        return wanted

    def _due(self, number: int) -> bool:
        version = self.versions[number]
        ready = version.servable is not None or self._folders.settled(number)
        return version.state is not VersionState.AVAILABLE and ready and time.monotonic() >= version.not_before

    async def _load_version(self, number: int) -> None:
        """Loads a version; `versions` then has it, or why it could not be loaded."""
        version = self.versions[number]
        version.state, version.folder = VersionState.LOADING, self._folders.version(number)
        self._on_change()
        try:
            version.servable = await self._load(self.settings.name, number, version.folder, version.servable)
        except asyncio.CancelledError:
            version.state = VersionState.START
            raise
        except Exception as error:
            await self._close(version)  # those who wait for it learn that it does not come
            if version.losses and isinstance(error.__cause__, EngineLost):
                log.error("model %s, version %d: its engine does not start: %s", self.settings.name, number, error)
                self._start_again(version, "its engine does not start")
                self._on_change()
                return
            version.state, version.error = VersionState.END, str(error) or type(error).__name__
            version.reason = without_paths(version.error, version.folder, f"version {number}")
            self._folders.fail(number)
            log.error("model %s, version %d: cannot be loaded: %s", self.settings.name, number, version.error,
                      exc_info=not isinstance(error, ServeError))
        else:
            version.state, version.available_since = VersionState.AVAILABLE, time.monotonic()
            version.error = version.reason = ""
        self._on_change()
