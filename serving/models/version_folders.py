"""models/NAME/VERSION: the versions of a model on disk, which of them are complete and loadable, and in which forms.

A form is for one engine; of those that a version has, one is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from serving.config.config import Engine, EngineChoice
from serving.config.models import ModelSettings
from serving.errors import ModelError, ServeError
from voc_cls.model_metadata import version_number

log = logging.getLogger(__name__)

LONGEST_LOOK = 1.0
"""Seconds that other models, and engines to be started again, wait for a look."""


@dataclass(frozen=True)
class Form:
    """One form of a model, for the engine whose package is called as the engine."""

    name: str
    """As in the "forms" of assets/voc_cls.json, and for `format` of voc-export."""
    files: tuple[str, ...]
    """Patterns, relative to the version's folder; where the first is there, the folder has the form."""
    extra: str
    """Of `pip install "voc-cls[...]"`: it brings the package."""


SAVED_MODEL, MODEL_XML = "saved_model.pb", "model.xml"
FORMS: Mapping[Engine, Form] = {
    "openvino": Form("openvino", (MODEL_XML, "model.bin"), "serve-openvino"),
    "tensorflow": Form("savedmodel", (SAVED_MODEL, "variables/variables.index", "variables/variables.data-*"), "serve"),
}
"""The fastest first."""


def engines_of(version_folder: Path) -> list[Engine]:
    """The engines that a version has a form for, the fastest first."""
    return [engine for engine, form in FORMS.items() if (version_folder / form.files[0]).exists()]


def choose_engine(wanted: EngineChoice, version_folder: Path) -> tuple[Engine, str]:
    """The engine that serves a version, and for the log why that one.

    ServeError if the version has no form for it, or its package is not installed.
    """
    possible = engines_of(version_folder)
    candidates = possible if wanted == "auto" else [wanted]
    if not possible:
        raise ServeError(f"{version_folder} has neither {MODEL_XML} nor {SAVED_MODEL}: export the model again with "
                         "voc-export")
    best, form = candidates[0], FORMS[candidates[0]]
    if best not in possible:
        raise ServeError(f"{version_folder} has no {form.files[0]}, which `engine` {best} computes: export it with "
                         f"`format` {form.name}, or choose auto")
    engine = next((engine for engine in candidates if importlib.util.find_spec(engine) is not None), None)
    if engine is None:
        raise ServeError(f"{version_folder} has {form.files[0]}, but the package {best} that computes it is not "
                         f"installed: pip install \"voc-cls[{form.extra}]\"")
    if wanted != "auto":
        return engine, "as `engine` says"
    if engine != best:
        return engine, f"auto: {best} is not installed"
    return engine, f"auto: no {MODEL_XML}" if engine == "tensorflow" else "auto: the fastest"


@dataclass(frozen=True)
class ModelFolder:
    """The contents of a model's folder at one moment."""

    path: Path
    versions: Mapping[int, Path]
    """Version → its folder, of a name such as 7 or 007; ascending."""
    others: tuple[str, ...]
    """Names that are not version numbers, so never served, such as voc-export's unfinished folders."""
    doubles: tuple[str, ...] = ()
    """Folders that are not served, as another is the same version; such as 007 beside 7."""


def read_model_folder(path: Path) -> ModelFolder:
    """Lists the versions in `path`; ServeError says what to pass instead if it is not a folder of versions."""
    if not path.is_dir():
        raise ServeError(f"`model_dir` {path} is {'a file' if path.exists() else 'not there'}: pass the folder that "
                         "voc-export wrote, such as models/voc")
    if engines := engines_of(path):
        found = path.resolve()
        if version_number(found.name) is not None:
            raise ServeError(f"`model_dir` {found} is one version of a model: pass the folder above it, "
                             f"{found.parent}, and its highest version is served")
        raise ServeError(f"`model_dir` {found} has {FORMS[engines[0]].files[0]}, so it is not a folder of versions: "
                         f"move it to {found / '1'} (as voc-export does) and pass {found}")
    children = sorted(child for child in path.iterdir() if not child.name.startswith("."))
    numbers = {child.name: version_number(child.name) for child in children if child.is_dir()}
    # of several names the last one, which is the shortest: as TensorFlow Serving chooses
    names = {number: name for name, number in numbers.items() if number is not None}
    if not names:
        raise ServeError(_has_no_versions(path, children))
    return ModelFolder(path, {number: path / names[number] for number in sorted(names)},
                       tuple(child.name for child in children if numbers.get(child.name) is None),
                       tuple(name for name, number in numbers.items() if number is not None and names[number] != name))


def check_versions(settings: ModelSettings, on_disk: Collection[int]) -> None:
    """ModelError unless every version that the settings name is on disk, and every label's is to be served."""
    name, policy, existing = settings.name, settings.policy, ", ".join(map(str, on_disk)) or "none"
    if missing := [number for number in policy.numbers if number not in on_disk]:
        raise ModelError(f"model '{name}' has no version {missing[0]} (on disk: {existing}): export it, or change "
                         "`versions`")
    for label, number in settings.labels.items():
        if number not in policy.wanted(on_disk):
            raise ModelError(f"model '{name}': the label '{label}' is version {number}, which is not served (on disk: "
                             f"{existing}; `versions` {policy}): export it, or change `version_labels`")


def _has_no_versions(path: Path, children: list[Path]) -> str:
    models = [child for child in children
              if child.is_dir() and any(version_number(grandchild.name) is not None for grandchild in child.iterdir())]
    if models:
        return f"`model_dir` {path} holds models, not the versions of one: pass {' or '.join(map(str, models))}"
    if (path / "config.yaml").exists():
        return f"`model_dir` {path} is a run folder: export it with voc-export {path} models/NAME and pass models/NAME"
    content = f"only {', '.join(child.name for child in children[:5])}" if children else "nothing"
    return (f"`model_dir` {path} has no version of a model in it (a folder named by a whole number), {content}: "
            f"export one with voc-export RUN {path}")


def fingerprint(version_folder: Path) -> tuple[tuple[str, int, int], ...]:
    """(path, bytes, time of change in ns) of every file of a version: equal if nothing was written in between."""
    files = []
    for folder, _, names in os.walk(version_folder):
        for name in names:
            path = os.path.join(folder, name)
            with contextlib.suppress(FileNotFoundError):  # removed at this moment
                status = os.stat(path)
                files.append((os.path.relpath(path, version_folder), status.st_size, status.st_mtime_ns))
    return tuple(sorted(files))


@dataclass
class VersionFolder:
    """One version's folder as it was at the last look."""

    path: Path
    fingerprint: object
    settled: bool
    """Whether it was the same at the last two looks, so it is not being copied."""
    failed: bool = False
    """Whether it could not be loaded as it is; then it is not tried again before something in it changes."""


class VersionFolders:
    """The version folders of a model, as they were at the last complete look."""

    def __init__(self, path: Path, read: Callable[[], ModelFolder] | None = None) -> None:
        """read: instead of read_model_folder, for a path that is not on this machine."""
        self._read = read or partial(read_model_folder, path)
        self._thread = ThreadPoolExecutor(1, "versions")  # asyncio would wait at the end for one of its own that hangs
        self._reading: asyncio.Future[ModelFolder] | None = None
        self.versions: dict[int, VersionFolder] = {}
        """Ascending."""
        self._doubles: tuple[str, ...] = ()
        self._unreadable = False

    async def look(self, settled: bool) -> None:
        """Reads the folder; VocError or OSError if it cannot be read, and then nothing changes.

        `settled`: versions that were not there before count as complete. Else, what takes long, as a version is copied
        from a store, is taken at a later look.
        """
        self._reading = self._reading or asyncio.get_running_loop().run_in_executor(self._thread, self._read)
        await asyncio.wait({self._reading}, timeout=None if settled else LONGEST_LOOK)
        if not self._reading.done():
            return
        was_unreadable, self._unreadable = self._unreadable, True
        reading, self._reading = self._reading, None
        on_disk = reading.result()
        if on_disk.doubles != self._doubles:
            self._doubles = on_disk.doubles
            for name in on_disk.doubles:
                log.warning("%s is ignored, as %s is the same version: remove one of them", on_disk.path / name,
                            on_disk.versions[int(name)])
        folders = {}
        for number, path in on_disk.versions.items():
            content = path, await asyncio.to_thread(fingerprint, path)
            before = self.versions.get(number)
            same = before is not None and before.fingerprint == content
            # after an unreadable folder failed versions are tried again: the disk may have been the reason
            failed = before is not None and before.failed and same and not was_unreadable
            folders[number] = VersionFolder(path, content, settled or same, failed)
        self.versions, self._unreadable = folders, False

    @property
    def loadable(self) -> list[int]:
        """Versions that exist and have not failed as they are, ascending."""
        return [number for number, folder in self.versions.items() if not folder.failed]
