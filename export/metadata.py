"""What is to be known of an exported model beyond its graph: assets/voc_cls.json, and MODEL_CARD.md for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from voc_cls.data.preprocessing import GRAPH_FORMATS, Preprocessing
from voc_cls.evaluation.report.page import percent

FORMAT = 1
"""Raised when a reader of an older format would misunderstand the file."""
VGG_LICENCE = "VGG weights: Simonyan & Zisserman, CC BY 4.0"
"""Of the pretrained weights; for other networks the card names no licence, because it is not known here."""


@dataclass(frozen=True)
class Metadata:
    """The content of assets/voc_cls.json."""

    net: str
    head: str
    labels: tuple[str, ...]
    activation: str
    """sigmoid (labels are independent) or softmax (probabilities sum to 1)."""
    thresholds: dict[str, float]
    """By label, 0 to 1; empty in single-label tasks."""
    preprocessing: Preprocessing
    weights_digest: str
    """SHA-256 over the exported weights, by TF-Slim name."""
    pretrained_digest: str | None
    """Of the checkpoint that training started from."""
    trained_on: dict[str, Any]
    """The run's dataset config, and its number of pictures."""
    metrics: dict[str, Any] | None
    """What `voc-eval --json` writes; None: the run was not evaluated."""
    voc_cls_version: str
    picture_formats: tuple[str, ...] = GRAPH_FORMATS
    """Files that the graph takes; voc-serve converts other ones before it."""
    cut: str | None = None
    """The scope or pool behind which the network ends."""

    def to_json(self) -> str:
        """Indented JSON, `format` first."""
        return json.dumps({"format": FORMAT, **asdict(self), "preprocessing": self.preprocessing.to_dict()},
                          indent=2) + "\n"


def model_card(name: str, version: int, metadata: Metadata) -> str:
    """Markdown: the task, training data, results, inputs and limits of a model."""
    # Markdown, not HTML, hence no escaping
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["percent"] = percent
    licence = VGG_LICENCE if metadata.net.startswith("vgg_") else "under the licence of its publisher"
    return environment.get_template("model_card.md").render(
        name=name, version=version, metadata=metadata, metrics=metadata.metrics, data=metadata.trained_on,
        settings=metadata.preprocessing, licence=licence)
