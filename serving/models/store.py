"""A model in an object store or MLflow's registry: its versions are listed there, copied aside, verified, and served.

A version is complete when the files are there that its export listed. Exports up to 0.4 have no list: they are when
two looks have found the same files, as in a local folder.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from serving.config.models import ModelSettings
from serving.errors import ServeError
from serving.models.version_folders import ModelFolder, read_model_folder
from voc_cls.errors import ExportError
from voc_cls.files import cache_folder, file_digests, locked
from voc_cls.model_metadata import read_metadata, version_number
from voc_cls.stores import connected, masked, opened, registered_model, store_url, tracking_uri

log = logging.getLogger(__name__)

METADATA = "assets/voc_cls.json"


def version_reader(settings: ModelSettings) -> Callable[[], ModelFolder]:
    """Reads the versions of a model, wherever they are; those to serve are on this machine then."""
    if registered := registered_model(settings.folder):
        return Registry(settings, *registered).read
    return Store(settings).read if store_url(settings.folder) else partial(read_model_folder, settings.folder)


class Store:
    """The versions of one model in a store, and their copies in the cache folder."""

    def __init__(self, settings: ModelSettings) -> None:
        self._settings, self._url = settings, store_url(settings.folder)
        self._copies = cache_folder() / "models" / quote(self._url, safe="")
        self._refused: dict[Path, str] = {}
        """Copy that a version would have → why there is none. A version that changes has another copy."""

    def read(self) -> ModelFolder:
        """The versions that are copied, after copying those that are to be served. ServeError, DownloadError."""
        listed = self._list()
        copies = {number: self._copies / sha256(repr(sorted(listed[version].items())).encode()).hexdigest() / version
                  for version in sorted(listed) if (number := version_number(version)) is not None}
        candidates = {number: copy for number, copy in copies.items() if copy not in self._refused}
        settings = self._settings
        while absent := [number for number in {*settings.policy.wanted(candidates), *settings.labels.values()}
                         if number in candidates and not candidates[number].exists()]:
            copy = candidates[max(absent)]
            try:
                self._fetch(copy, listed[copy.name], copies.values())
            except (ServeError, ExportError) as error:
                log.warning("model %s: %s/%s is not served until it changes: %s", self._settings.name, self._url,
                            copy.name, error)
                self._refused[candidates.pop(max(absent))] = str(error)
        if versions := {number: candidates[number] for number in sorted(candidates) if candidates[number].exists()}:
            return ModelFolder(self._settings.folder, versions, ())
        reasons = "".join(f"; of {copy.name}: {self._refused[copy]}" for copy in copies.values())
        raise ServeError(f"`model_dir` {self._url} has no complete version of a model in it (a folder named by a whole "
                         f"number){reasons}: upload one that voc-export wrote")

    def _list(self) -> dict[str, dict[str, Any]]:
        """Version → names of its files → what is known of them, which changes when they do."""
        listed: dict[str, dict[str, Any]] = {}
        with opened(self._url) as (files, root):
            for path, entry in files.find(root, detail=True).items():
                version, _, name = path.removeprefix(f"{root}/").partition("/")
                listed.setdefault(version, {})[name] = entry
        return listed

    def _download(self, version: Path, listed: Collection[str]) -> None:
        """Copies a version into `version`, whose name is its number; ServeError if `listed` has not all files."""
        if METADATA not in listed:
            raise ServeError(f"it has no {METADATA} yet")
        with opened(self._url) as (files, root):
            files.get(f"{root}/{version.name}/{METADATA}", str(version / METADATA))
            if missing := sorted(read_metadata(version).files.keys() - set(listed)):
                raise ServeError(f"it has no {missing[0]} yet")
            files.get(f"{root}/{version.name}/", f"{version}/", recursive=True)

    def _fetch(self, copy: Path, listed: Collection[str], current: Collection[Path]) -> None:
        """Copies a version, whole or not at all, and removes copies that are not current; ServeError, ExportError."""
        self._copies.mkdir(parents=True, exist_ok=True)
        with locked(self._copies, lambda: log.info("%s is being copied by another process", self._url)):
            for other in set(self._copies.iterdir()) - {path.parent for path in current}:
                shutil.rmtree(other)
            with tempfile.TemporaryDirectory(dir=self._copies) as aside:
                self._download(Path(aside, copy.name), listed)
                digests = read_metadata(Path(aside, copy.name)).files
                for name, found in zip(digests, file_digests([Path(aside, copy.name, name) for name in digests]),
                                       strict=True):
                    if digests[name] != found:
                        raise ServeError(f"its {name} is not the one that was exported (SHA-256): upload it again")
                copy.parent.mkdir(exist_ok=True)
                if not copy.exists():  # as another process has copied it
                    os.rename(Path(aside, copy.name), copy)
        log.info("model %s, version %s: copied from %s to %s", self._settings.name, copy.name, self._url, copy)


class Registry(Store):
    """The versions of one model in MLflow's registry: all, or the one of a number or an alias."""

    def __init__(self, settings: ModelSettings, name: str, which: str) -> None:
        super().__init__(settings)
        self._name, self._which, self._uri = name, which, tracking_uri()
        self._copies /= quote(masked(self._uri), safe="")

    def _list(self) -> dict[str, dict[str, Any]]:
        with connected(self._uri) as mlflow:
            found, only = mlflow.search_model_versions(filter_string=f"name='{self._name}'"), self._which
            if only and not only.isdigit():
                only = str(mlflow.MlflowClient().get_model_version_by_alias(self._name, only).version)
        return {version: {"": (entry.source, entry.creation_timestamp)} for entry in found
                if (version := str(entry.version)) == (only or version) and entry.status == "READY"}

    def _download(self, version: Path, listed: Collection[str]) -> None:  # noqa: ARG002
        with connected(self._uri) as mlflow, tempfile.TemporaryDirectory(dir=version.parent) as aside:
            mlflow.artifacts.download_artifacts(f"models:/{self._name}/{version.name}", dst_path=aside)
            for metadata in list(Path(aside).rglob(METADATA)):
                metadata.parents[1].rename(version)
