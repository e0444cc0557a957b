"""assets/voc_cls.json: what a server or a client needs to know about an exported model beyond its graph."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from voc_cls.data.preprocessing import GRAPH_FORMATS, Preprocessing

FORMAT = 1
"""Raised when a reader of an older format would misunderstand the file."""


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
