"""assets/voc_cls.json: what an exported model says about itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.errors import ServeError

FORMAT = 1
"""The newest format of voc_cls.json that this server reads."""


@dataclass(frozen=True)
class ModelMetadata:
    """What the server needs to know of a model besides its graph."""

    labels: tuple[str, ...]
    """In the order of the columns of `probabilities`."""
    net: str
    size: int
    """Height and width of the network's input, pixels."""


def read_metadata(version_folder: Path) -> ModelMetadata:
    """Reads assets/voc_cls.json of an exported version; ServeError if it is missing, foreign or too new."""
    path = version_folder / "assets" / "voc_cls.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ServeError(f"{version_folder} has no assets/voc_cls.json, so it was not made by voc-export: "
                         "export the run with voc-export RUN models/NAME") from None
    except (OSError, ValueError) as error:
        raise ServeError(f"{path} cannot be read ({error}): export the model again with voc-export") from None
    found = content.get("format") if isinstance(content, dict) else None
    if not isinstance(found, int):
        raise ServeError(f"{path} has no number as its \"format\": it is not voc-export's; export the model again")
    if found > FORMAT:
        raise ServeError(f"{path} has format {found}, this voc-serve reads up to {FORMAT}: upgrade voc-cls")
    return ModelMetadata(_labels(content, path), str(content.get("net", "?")), _size(content, path))


def _labels(content: dict[str, Any], path: Path) -> tuple[str, ...]:
    labels = content.get("labels")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) and label for label in labels):
        raise ServeError(f"{path}: \"labels\" must be a list of names, found {labels!r}")
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ServeError(f"{path}: \"labels\" has {', '.join(twice)} more than once")
    return tuple(labels)


def _size(content: dict[str, Any], path: Path) -> int:
    preprocessing = content.get("preprocessing")
    size = preprocessing.get("size") if isinstance(preprocessing, dict) else None
    if not isinstance(size, int) or size < 1:
        raise ServeError(f"{path}: \"preprocessing\" must have a \"size\" in pixels, found {preprocessing!r}")
    return size
