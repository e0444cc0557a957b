"""The temperature undoes what made the logits too sure, and its file is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from voc_cls.data.dataset import Dataset, Task
from voc_cls.errors import RunError
from voc_cls.evaluation.calibration import (
    TEMPERATURES,
    Calibration,
    fit_calibration,
    read_calibration,
    reliability,
)
from voc_cls.evaluation.tasks import Fitted, write_fitted


def honest(pictures: int = 20000, seed: int = 0) -> tuple[Dataset, np.ndarray]:
    """The truth is drawn by the very probabilities of the logits."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(pictures, 3))
    drawn = (softmax(logits, axis=1).cumsum(axis=1) < random.random((pictures, 1))).sum(axis=1)
    labels = np.eye(3, dtype=np.float32)[drawn]
    return Dataset("honest", ("a", "b", "c"), tuple(Path(f"{row}.jpg") for row in range(pictures)), labels,
                   np.zeros(labels.shape, bool), task=Task.SINGLE_LABEL), logits


def temperature_of(dataset: Dataset, logits: np.ndarray) -> Calibration:
    fitted = fit_calibration(dataset, logits)
    assert fitted is not None
    return fitted


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_it_is_what_the_logits_were_multiplied_by(factor: float):
    dataset, logits = honest()
    fitted = temperature_of(dataset, (factor * logits).astype(np.float32))
    assert fitted.temperature == pytest.approx(factor, rel=0.05)
    scaled = (factor * logits).astype(np.float32)
    assert reliability(dataset, fitted.rescaled(scaled)).ece < 0.01
    assert (reliability(dataset, scaled).ece > 0.05) == (factor != 1)


def test_pictures_that_are_all_right_have_a_temperature_all_the_same():
    labels = np.eye(3, dtype=np.float32)
    dataset = replace(honest(3)[0], labels=labels)
    lowest, highest = TEMPERATURES
    assert temperature_of(dataset, labels).temperature == pytest.approx(lowest, rel=0.5)  # a loss of 0 from there on
    assert temperature_of(dataset, -labels).temperature == pytest.approx(highest, rel=0.01)


def test_the_error_is_that_of_the_most_probable_class():
    labels = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    dataset = replace(honest(4)[0], classes=("a", "b"), labels=labels, ignored=np.zeros((4, 2), bool))
    sure = np.log(np.array([[0.9, 0.1]] * 4, np.float32))  # sure by 90 %, right in 75 %
    found = reliability(dataset, sure)
    assert found.ece == pytest.approx(0.15, abs=1e-6)
    assert [bar.count for bar in found.bins if bar.count] == [4]


def test_the_file_brings_it_back_and_must_be_about_the_same_classes(tmp_path: Path, singlelabel: Callable[..., Any]):
    dataset, logits = singlelabel()
    assert read_calibration(tmp_path, dataset.classes) is None
    fitted = temperature_of(dataset, logits)
    write_fitted(tmp_path, Fitted(calibration=fitted), dataset.classes)
    assert read_calibration(tmp_path, dataset.classes) == fitted
    with pytest.raises(RunError, match=r"calibration\.json: its classes are not those"):
        read_calibration(tmp_path, ("a", "b"))


@pytest.mark.parametrize("damage", ['"temperature": -1', '"temperature": "hot"', '"other": 1'])
def test_a_file_that_is_no_temperature_is_named(tmp_path: Path, damage: str):
    (tmp_path / "calibration.json").write_text(f'{{"split": "val", {damage}, "classes": ["a"]}}')
    with pytest.raises(RunError, match=r"calibration\.json: not the calibration of a run"):
        read_calibration(tmp_path, ("a",))
