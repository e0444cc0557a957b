"""tensorflow.serving.ModelSpec: which version a call asks for, and which one answered."""

from __future__ import annotations

from typing import Any

from serving.models.servable import Servable


def asked(spec: Any) -> tuple[str, int | None, str]:
    """Name ("" for the server's only model), version number if one is set, version label if one is set."""
    return spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label


def tell(spec: Any, servable: Servable, signature: str = "") -> None:
    """Fills the ModelSpec of a response."""
    spec.name = servable.name
    spec.version.value = servable.version
    spec.signature_name = signature
