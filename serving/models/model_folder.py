"""models/NAME/VERSION: finding the versions of a model on disk."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ServeError

SAVED_MODEL = "saved_model.pb"
LARGEST_VERSION = 2**63 - 1
"""ModelSpec.version is an int64."""


@dataclass(frozen=True)
class ModelFolder:
    """What lies in a model's folder at one moment."""

    path: Path
    versions: tuple[int, ...]
    """Ascending."""
    others: tuple[str, ...]
    """Names that are no version numbers, so never served; voc-export's unfinished ones, for instance."""

    def version(self, number: int) -> Path:
        """The folder of one version."""
        return self.path / str(number)


def is_version(name: str) -> bool:
    """Whether a folder's name is a version: a whole number in its plain form (12, not 012, +12 or 1e3)."""
    return name.isascii() and name.isdigit() and name == str(int(name)) and int(name) <= LARGEST_VERSION


def read_model_folder(path: Path) -> ModelFolder:
    """Lists the versions in `path`; ServeError says what to pass instead when it is no folder of versions."""
    if not path.is_dir():
        found = "a file" if path.exists() else "not there"
        raise ServeError(f"--model-dir {path} is {found}: pass the folder that voc-export wrote, such as models/voc")
    if (path / SAVED_MODEL).exists():
        raise ServeError(_is_a_saved_model(path.resolve()))
    children = sorted(child for child in path.iterdir() if not child.name.startswith("."))
    versions = sorted(int(child.name) for child in children if child.is_dir() and is_version(child.name))
    if not versions:
        raise ServeError(_has_no_versions(path, children))
    return ModelFolder(path, tuple(versions),
                       tuple(child.name for child in children if not (child.is_dir() and is_version(child.name))))


def fingerprint(version_folder: Path) -> tuple[tuple[str, int, int], ...]:
    """(path, bytes, time of change in ns) of every file of a version: equal means that nothing was written between."""
    files = []
    for folder, _, names in os.walk(version_folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # removed at this moment
                found = os.stat(os.path.join(folder, name))
                files.append((os.path.relpath(os.path.join(folder, name), version_folder), found.st_size,
                              found.st_mtime_ns))
    return tuple(sorted(files))


def _is_a_saved_model(path: Path) -> str:
    if is_version(path.name):
        return (f"--model-dir {path} is one version of a model: pass the folder above it, {path.parent}, "
                "and its highest version is served")
    return (f"--model-dir {path} is a SavedModel, not a folder of versions: move it to {path / '1'} "
            f"(as voc-export does by itself) and pass {path}")


def _has_no_versions(path: Path, children: list[Path]) -> str:
    models = [child for child in children
              if child.is_dir() and any(is_version(grandchild.name) for grandchild in child.iterdir())]
    if models:
        return f"--model-dir {path} holds models, not the versions of one: pass {' or '.join(map(str, models))}"
    if (path / "config.yaml").exists():
        return f"--model-dir {path} is a run folder: export it with voc-export {path} models/NAME and pass models/NAME"
    found = f"only {', '.join(child.name for child in children[:5])}" if children else "nothing"
    return (f"--model-dir {path} has no version of a model in it (a folder named by a whole number), {found}: "
            f"export one with voc-export RUN {path}")
