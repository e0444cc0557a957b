"""MODEL_CARD.md: what a user should know about an exported model."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from export.metadata import Metadata
from voc_cls.evaluation.report.page import percent

VGG_LICENCE = "VGG weights: Simonyan & Zisserman, CC BY 4.0"
"""Of the pretrained weights; for other networks the card names no licence, because it is not known here."""


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
