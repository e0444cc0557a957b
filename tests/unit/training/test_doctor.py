"""voc-train --doctor: what it shows, what it computes, and that it notices what is broken."""

from __future__ import annotations

import io
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console

from voc_cls.training import devices
from voc_cls.training.doctor import advices, doctor, free_gib, trial


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    text = io.StringIO()
    assert doctor(Console(file=text, width=200), tmp_path_factory.mktemp("cache") / "not yet there")["works"]
    return text.getvalue()


def test_the_report_fits_into_eighty_columns(report: str):
    rows = [line for line in report.splitlines() if not line.startswith("!")]
    assert max(len(line.rstrip()) for line in rows) <= 80


def test_the_report_names_versions_devices_and_what_was_computed(report: str):
    for expected in ("Python", "voc-cls", "keras", "Keras backend", devices.processor()[:20], "NVIDIA driver", "caches",
                     "GiB free", "float32", "bfloat16", "float16", "TFLOP/s", "training can work here"):
        assert expected in report


def test_every_precision_gives_the_right_numbers():
    for precision in ("float32", "bfloat16", "float16"):
        text, works = trial(precision)
        assert works, text
        assert "ms" in text


def test_a_device_that_computes_wrongly_is_noticed(monkeypatch: pytest.MonkeyPatch):
    right = keras.layers.Conv2D.call
    monkeypatch.setattr(keras.layers.Conv2D, "call", lambda self, inputs: right(self, inputs) * 1.01)
    text, works = trial("float32")
    assert not works, text


def test_a_device_that_fails_is_told_and_does_not_end_the_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def broken(self: keras.layers.Layer, inputs: object) -> np.ndarray:  # noqa: ARG001
        raise RuntimeError("DNN library is not found")

    monkeypatch.setattr(keras.layers.Conv2D, "call", broken)
    text = io.StringIO()
    assert not doctor(Console(file=text, width=200), tmp_path)["works"]
    assert "DNN library is not found" in text.getvalue()
    assert "training cannot work here" in text.getvalue()


def test_a_card_that_is_not_used_comes_with_advice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(devices, "nvidia_cards", lambda: ("NVIDIA A100 (80 GiB)",))
    if devices.accelerators():
        pytest.skip("a GPU is used here")
    assert any("NVIDIA A100 (80 GiB) is not used" in advice for advice in advices(tmp_path))


def test_free_space_is_that_of_the_folder_that_will_hold_a_new_one(tmp_path: Path):
    assert free_gib(tmp_path / "a/b/c") == pytest.approx(free_gib(tmp_path), rel=0.1)
