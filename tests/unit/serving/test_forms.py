"""Which engine serves a version: the fastest that its folder and the machine have, or the one that was asked for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from serving.config.config import EngineChoice
from serving.errors import ServeError
from serving.models.version_folders import choose_engine


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The packages that seem to be installed, to be changed at will."""
    packages, find = {"tensorflow", "openvino"}, importlib.util.find_spec

    def found(name: str, package: str | None = None) -> Any:
        return None if name not in packages else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    return packages


def version(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).write_bytes(b"")
    return folder


def refusal(wanted: EngineChoice, folder: Path) -> str:
    with pytest.raises(ServeError) as error:
        choose_engine(wanted, folder)
    return str(error.value).removeprefix(f"{folder} ")


@pytest.mark.usefixtures("installed")
def test_auto_takes_the_fastest_form_of_the_folder(tmp_path: Path) -> None:
    assert choose_engine("auto", version(tmp_path, "saved_model.pb")) == ("tensorflow", "auto: no model.xml")
    assert choose_engine("auto", version(tmp_path, "model.xml")) == ("openvino", "auto: the fastest")
    assert choose_engine("tensorflow", tmp_path) == ("tensorflow", "as `engine` says")
    assert choose_engine("openvino", tmp_path) == ("openvino", "as `engine` says")


def test_auto_passes_over_what_is_not_installed(tmp_path: Path, installed: set[str]) -> None:
    installed.remove("openvino")
    version(tmp_path, "saved_model.pb", "model.xml")
    assert choose_engine("auto", tmp_path) == ("tensorflow", "auto: openvino is not installed")
    installed.remove("tensorflow")
    assert refusal("auto", tmp_path) == ("has model.xml, but the package openvino that computes it is not installed: "
                                         'pip install "voc-cls[serve-openvino]"')


def test_an_engine_that_the_folder_or_the_machine_lacks_is_one_sentence(tmp_path: Path, installed: set[str]) -> None:
    assert refusal("auto", version(tmp_path, "model.onnx")) == (
        "has neither model.xml nor saved_model.pb: export the model again with voc-export")
    assert refusal("openvino", version(tmp_path, "saved_model.pb")) == (
        "has no model.xml, which `engine` openvino computes: export it with `format` openvino, or choose auto")
    installed.remove("tensorflow")
    for wanted in ("auto", "tensorflow"):
        assert refusal(wanted, tmp_path).endswith('is not installed: pip install "voc-cls[serve]"')
    (tmp_path / "saved_model.pb").unlink()
    assert refusal("tensorflow", version(tmp_path, "model.xml")).startswith("has no saved_model.pb, which `engine` ten")
