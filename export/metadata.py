"""assets/voc_cls.json: what a server or a client needs to know of an exported model beyond its graph."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from voc_cls.data.preprocessing import Preprocessing

FORMAT = 1
"""Raised when a reader of an older format would misunderstand the file."""


@dataclass(frozen=True)
class Metadata:
    """The content of assets/voc_cls.json; thresholds are probabilities, none where a picture has one
    class, metrics what `voc-eval --json` writes."""

    net: str
    head: str
    labels: tuple[str, ...]
    activation: str
    """sigmoid, each label on its own, or softmax, they sum to 1."""
    thresholds: dict[str, float]
    preprocessing: Preprocessing
    weights_digest: str
    """SHA-256 over the exported weights, by TF-Slim name."""
    pretrained_digest: str | None
    """Of the checkpoint that training started from."""
    trained_on: dict[str, Any]
    """The run's dataset config, and how many pictures it had."""
    metrics: dict[str, Any] | None
    voc_cls_version: str

    def to_json(self) -> str:
        """Indented JSON, `format` first."""
        return json.dumps({"format": FORMAT, **asdict(self), "preprocessing": self.preprocessing.to_dict()},
                          indent=2) + "\n"
