"""The forms of an exported version, one for each engine: which of them a folder has, and which one is served."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.config.config import Engine, EngineChoice
from serving.errors import ServeError


@dataclass(frozen=True)
class Form:
    """One form of a model, for the engine whose package is called as the engine."""

    name: str
    """As in the "forms" of assets/voc_cls.json, and for `format` of voc-export."""
    files: tuple[str, ...]
    """Patterns, relative to the version's folder; where the first is there, the folder has the form."""
    extra: str
    """Of `pip install "voc-cls[...]"`: it brings the package."""


SAVED_MODEL, MODEL_XML = "saved_model.pb", "model.xml"
FORMS: Mapping[Engine, Form] = {
    "openvino": Form("openvino", (MODEL_XML, "model.bin"), "serve-openvino"),
    "tensorflow": Form("savedmodel", (SAVED_MODEL, "variables/variables.index", "variables/variables.data-*"), "serve"),
}
"""The fastest first."""


def engines_of(version_folder: Path) -> list[Engine]:
    """The engines that a version has a form for, the fastest first."""
    return [engine for engine, form in FORMS.items() if (version_folder / form.files[0]).exists()]


def choose_engine(wanted: EngineChoice, version_folder: Path) -> tuple[Engine, str]:
    """The engine that serves a version, and for the log why that one.

    ServeError if the version has no form for it, or its package is not installed.
    """
    possible = engines_of(version_folder)
    if not possible:
        files = " nor ".join(form.files[0] for form in FORMS.values())
        raise ServeError(f"{version_folder} has neither {files}: export the model again with voc-export")
    if wanted != "auto" and wanted not in possible:
        form = FORMS[wanted]
        raise ServeError(f"{version_folder} has no {form.files[0]}, which `engine` {wanted} computes: export it with "
                         f"`format` {form.name}, or choose auto")
    candidates = possible if wanted == "auto" else [wanted]
    engine = next((engine for engine in candidates if importlib.util.find_spec(engine) is not None), None)
    if engine is None:
        form = FORMS[candidates[0]]
        raise ServeError(f"{version_folder} has {form.files[0]}, but the package {candidates[0]} that computes it is "
                         f"not installed: pip install \"voc-cls[{form.extra}]\"")
    if wanted != "auto":
        return engine, "as `engine` says"
    faster = list(FORMS)[:list(FORMS).index(engine)]
    reasons = [f"{other} is not installed" if other in possible else f"no {FORMS[other].files[0]}" for other in faster]
    return engine, f"auto: {', '.join(reasons) or 'the fastest'}"
