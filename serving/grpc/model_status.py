"""In what state the versions of a model are, as both APIs tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from serving.errors import NotFound
from serving.models.model import Version, VersionState
from serving.models.registry import ModelRegistry
from serving.security.sanitize import printable


@dataclass(frozen=True)
class VersionStatus:
    """tensorflow.serving.ModelVersionStatus, before it is a message or JSON."""

    number: int
    state: VersionState
    error_code: Literal["OK", "UNKNOWN"]
    """UNKNOWN, with a message, for a version that could not be loaded."""
    error_message: str


def version_statuses(models: ModelRegistry, name: str, version: int | None = None,
                     label: str = "") -> list[VersionStatus]:
    """The versions of a model, ascending, or the one with a number or a label. Raises NotFound naming what there is."""
    versions = dict(sorted(models.versions(name).items()))
    name = name or models.names[0]  # "" is the only one's
    if version is not None:
        if version not in versions:
            raise NotFound(f"model '{name}' has no version {version}; this server has "
                           f"{', '.join(map(str, versions)) or 'none'}")
        versions = {version: versions[version]}
    if label:
        known = sorted({label for found in versions.values() for label in found.labels})
        if label not in known:
            raise NotFound(f"model '{name}' has no version with the label '{printable(label)}'; its labels: "
                           f"{', '.join(known) or 'none'}")
        versions = {number: found for number, found in versions.items() if label in found.labels}
    return [_status(number, found) for number, found in versions.items()]


def _status(number: int, version: Version) -> VersionStatus:
    failed = version.state is VersionState.END and version.error
    return VersionStatus(number, version.state, "UNKNOWN" if failed else "OK", version.error if failed else "")
