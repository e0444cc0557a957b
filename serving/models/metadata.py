"""assets/voc_cls.json: what an exported model says about itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from serving.errors import ServeError

FORMAT = 1
"""The newest format of voc_cls.json that this server reads."""


@dataclass(frozen=True)
class ModelMetadata:
    """What the server and its callers need to know of a model besides its graph.

    Beyond the first three every field may be empty: exports of older versions, and those without an evaluation, say
    less.
    """

    labels: tuple[str, ...]
    """In the order of the columns of `probabilities`."""
    net: str
    size: int
    """Height and width of the network's input, pixels."""
    activation: str = "sigmoid"
    """What turned logits into probabilities: sigmoid, each label on its own, or softmax, they sum to 1."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Label → probability from which on it counts as seen."""
    mean: tuple[float, ...] = ()
    """Subtracted from each channel, grey levels 0-255, in the order of `channels`."""
    channels: str = ""
    """RGB or BGR."""
    resize: str = ""
    """Such as bilinear."""
    std: tuple[float, ...] = ()
    """What each channel is divided by afterwards, grey levels; empty: by nothing."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What was measured on the evaluation split, under the names of `voc-eval --json`: map, map_11pt, of1 and so on."""
    average_precisions: Mapping[str, float] = field(default_factory=dict)
    """Label → average precision on the evaluation split, 0-1; a label without positives there has none."""
    weights_digest: str = ""
    """SHA-256 over the exported weights."""


def read_metadata(version_folder: Path) -> ModelMetadata:
    """Reads assets/voc_cls.json of an exported version; ServeError if it is missing, foreign, too new or damaged."""
    path = version_folder / "assets" / "voc_cls.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ServeError(f"{version_folder} has no assets/voc_cls.json, so it was not made by voc-export: "
                         "export the run with voc-export RUN models/NAME") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ServeError(f"{path} cannot be read ({error}): export the model again with voc-export") from None
    found = content.get("format") if isinstance(content, dict) else None
    if not isinstance(found, int):
        raise ServeError(f"{path} has no number as its \"format\": it is not voc-export's; export the model again")
    if found > FORMAT:
        raise ServeError(f"{path} has format {found}, this voc-serve reads up to {FORMAT}: upgrade voc-cls")
    return _metadata(_Section(path, "", content))


@dataclass(frozen=True)
class _Section:
    """The keys and values of one place in a file; what is wrong there is a ServeError with the file and the key."""

    path: Path
    prefix: str
    values: dict[str, Any]

    def section(self, key: str) -> _Section:
        """What is under `key`; empty if that is absent or null."""
        found = self.values.get(key)
        if found is not None and not isinstance(found, dict):
            self.refuse(key, "have keys and values", found)
        return _Section(self.path, f"{self.prefix}{key}.", found or {})

    def text(self, key: str, default: str = "") -> str:
        """The text under `key`."""
        found = self.values.get(key, default)
        return found if isinstance(found, str) else self.refuse(key, "be text", found)

    def share(self, key: str) -> float | None:
        """The number from 0 to 1 under `key`; None if it is absent or null."""
        found = self.values.get(key)
        if found is None or (_is_number(found) and 0 <= found <= 1):
            return found
        return self.refuse(key, "be from 0 to 1", found)

    def refuse(self, key: str, wanted: str, found: Any) -> NoReturn:
        raise ServeError(f"{self.path}: \"{self.prefix}{key}\" must {wanted}, found {found!r}: export the model again "
                         "with voc-export")


def _metadata(content: _Section) -> ModelMetadata:
    labels = _labels(content)
    preprocessing, metrics = content.section("preprocessing"), content.section("metrics")
    return ModelMetadata(
        labels=labels,
        net=content.text("net", "?"),
        size=_size(content, preprocessing),
        activation=content.text("activation", "sigmoid"),
        thresholds=_thresholds(content.section("thresholds"), labels),
        mean=_grey_levels(preprocessing, "mean"),
        std=_grey_levels(preprocessing, "std"),
        channels=preprocessing.text("channels"),
        resize=preprocessing.text("resize"),
        metrics={name: float(value) for name, value in metrics.values.items() if _is_number(value)},
        average_precisions=_average_precisions(metrics.section("classes"), labels),
        weights_digest=content.text("weights_digest"),
    )


def _labels(content: _Section) -> tuple[str, ...]:
    labels = content.values.get("labels")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) and label for label in labels):
        content.refuse("labels", "be a list of names", labels)
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise ServeError(f"{content.path}: \"labels\" has {', '.join(twice)} more than once")
    return tuple(labels)


def _size(content: _Section, preprocessing: _Section) -> int:
    size = preprocessing.values.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        content.refuse("preprocessing", "have a \"size\" in pixels", preprocessing.values)
    return size


def _grey_levels(preprocessing: _Section, key: str) -> tuple[float, ...]:
    found = preprocessing.values.get(key, [])
    if not isinstance(found, list) or not all(map(_is_number, found)):
        preprocessing.refuse(key, "be a list of grey levels", found)
    return tuple(map(float, found))


def _thresholds(section: _Section, labels: tuple[str, ...]) -> dict[str, float]:
    found = {label: section.share(label) for label in section.values}
    if unknown := [label for label in found if label not in labels]:
        section.refuse(unknown[0], "be one of \"labels\"", unknown[0])
    return {label: value for label, value in found.items() if value is not None}


def _average_precisions(classes: _Section, labels: tuple[str, ...]) -> dict[str, float]:
    found = {label: classes.section(label).share("ap") for label in labels}
    return {label: value for label, value in found.items() if value is not None}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
