"""assets/voc_cls.json: the metadata of an exported model."""

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
    """What the server and its callers need to know about a model besides its graph.

    All fields but the first three may be empty, in exports of older versions and in those without an evaluation.
    """

    labels: tuple[str, ...]
    """In the order of the columns of `probabilities`."""
    net: str
    size: int
    """Height and width of the network's input, pixels."""
    activation: str = "sigmoid"
    """From logits to probabilities: sigmoid, each label on its own, or softmax, they sum to 1."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Label → least probability with which it counts as present."""
    mean: tuple[float, ...] = ()
    """Subtracted from each channel, grey levels 0-255, in the order of `channels`."""
    channels: str = ""
    """RGB or BGR."""
    resize: str = ""
    """Such as bilinear."""
    std: tuple[float, ...] = ()
    """Each channel is then divided by it, grey levels; empty: no division."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Results on the evaluation split, under the names of `voc-eval --json`: map, map_11pt, of1 and so on."""
    average_precisions: Mapping[str, float] = field(default_factory=dict)
    """Label → average precision on the evaluation split, 0-1; a label without positives there has none."""
    weights_digest: str = ""
    """SHA-256 over the exported weights."""


def read_metadata(version_folder: Path) -> ModelMetadata:
    """Reads assets/voc_cls.json of an exported version; ServeError if it is missing, too new or damaged."""
    path = version_folder / "assets" / "voc_cls.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ServeError(f"{version_folder} has no assets/voc_cls.json, so it was not made by voc-export: "
                         "export the run with voc-export RUN models/NAME") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ServeError(f"{path} cannot be read ({error}): export the model again with voc-export") from None
    version = content.get("format") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise ServeError(f"{path} has no number as its \"format\": it is not voc-export's; export the model again")
    if version > FORMAT:
        raise ServeError(f"{path} has format {version}, this voc-serve reads up to {FORMAT}: upgrade voc-cls")
    return _metadata(_Section(path, "", content))


@dataclass(frozen=True)
class _Section:
    """An object within the file; errors are ServeErrors that name the file and the key."""

    path: Path
    prefix: str
    values: dict[str, Any]

    def section(self, key: str) -> _Section:
        """The object under `key`; empty if it is absent or null."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            self.fail(key, "have keys and values", value)
        return _Section(self.path, f"{self.prefix}{key}.", value or {})

    def text(self, key: str, default: str = "") -> str:
        """The text under `key`."""
        value = self.values.get(key, default)
        return value if isinstance(value, str) else self.fail(key, "be text", value)

    def fraction(self, key: str) -> float | None:
        """The number from 0 to 1 under `key`; None if it is absent or null."""
        value = self.values.get(key)
        if value is None or (_is_number(value) and 0 <= value <= 1):
            return value
        return self.fail(key, "be from 0 to 1", value)

    def fail(self, key: str, expected: str, value: Any) -> NoReturn:
        raise ServeError(f"{self.path}: \"{self.prefix}{key}\" must {expected}, found {value!r}: export the model "
                         "again with voc-export")


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
        content.fail("labels", "be a list of names", labels)
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise ServeError(f"{content.path}: \"labels\" has {', '.join(repeated)} more than once")
    return tuple(labels)


def _size(content: _Section, preprocessing: _Section) -> int:
    size = preprocessing.values.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        content.fail("preprocessing", "have a \"size\" in pixels", preprocessing.values)
    return size


def _grey_levels(preprocessing: _Section, key: str) -> tuple[float, ...]:
    levels = preprocessing.values.get(key, [])
    if not isinstance(levels, list) or not all(map(_is_number, levels)):
        preprocessing.fail(key, "be a list of grey levels", levels)
    return tuple(map(float, levels))


def _thresholds(section: _Section, labels: tuple[str, ...]) -> dict[str, float]:
    thresholds = {label: section.fraction(label) for label in section.values}
    if unknown := [label for label in thresholds if label not in labels]:
        section.fail(unknown[0], "be one of \"labels\"", unknown[0])
    return {label: value for label, value in thresholds.items() if value is not None}


def _average_precisions(classes: _Section, labels: tuple[str, ...]) -> dict[str, float]:
    values = {label: classes.section(label).fraction("ap") for label in labels}
    return {label: value for label, value in values.items() if value is not None}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
