"""Calibration: made data whose true probabilities are known, errors added up by hand, a file that is checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.errors import RunError
from voc_cls.evaluation.average_precision import average_precisions
from voc_cls.evaluation.calibration import (
    LEAST_POSITIVES,
    Calibration,
    choose_thresholds,
    expected_error,
    fit_calibration,
    fit_line,
    read_calibration,
    reliability,
    reliability_bins,
)
from voc_cls.evaluation.tasks import Fitted, write_fitted


def made(pictures: int, overconfident: float = 1.0, offset: float = 0.0, classes: int = 3,
         seed: int = 0) -> tuple[Dataset, np.ndarray]:
    """Labels drawn from true probabilities, and logits that are `overconfident` times too large, then moved."""
    random = np.random.default_rng(seed)
    true = random.normal(-1, 2, (pictures, classes))
    labels = (random.random(true.shape) < 1 / (1 + np.exp(-true))).astype(np.float32)
    names = tuple(f"class{column}" for column in range(classes))
    paths = tuple(Path(str(row)) for row in range(pictures))
    dataset = Dataset("made", names, paths, labels, np.zeros(true.shape, bool), DifficultPolicy.IGNORE)
    return dataset, (overconfident * true + offset).astype(np.float32)


def test_the_error_of_two_bins_added_up_by_hand():
    truth, probabilities = np.array([True, False, False, True]), np.array([0.01, 0.03, 0.05, 1.0])
    bins = reliability_bins(truth, probabilities)
    first, last = bins[0], bins[-1]
    assert (first.count, first.confidence, first.accuracy) == (3, pytest.approx(0.03), pytest.approx(1 / 3))
    assert (last.count, last.confidence, last.accuracy, last.upper) == (1, 1.0, 1.0, 1.0)
    assert sum(bar.count for bar in bins) == 4
    assert expected_error(bins) == pytest.approx(3 / 4 * (1 / 3 - 0.03) + 1 / 4 * 0)


def test_true_probabilities_have_hardly_any_error():
    dataset, logits = made(20_000)
    found = reliability(dataset, logits)
    assert found.ece < 0.005
    assert all(error < 0.01 for error in found.classes.values())
    assert found.class_ece == pytest.approx(np.mean(list(found.classes.values())))


def test_the_temperature_finds_by_how_much_logits_were_too_large():
    fitted = fit_calibration(*made(20_000, overconfident=2.5))
    assert fitted is not None
    assert fitted.temperature == pytest.approx(2.5, rel=0.03)


def test_it_finds_factor_and_offset():
    fitted = fit_calibration(*made(20_000, overconfident=2, offset=1))
    assert fitted is not None
    assert fitted.temperature == pytest.approx(2, rel=0.03)
    assert fitted.offset == pytest.approx(-1 / 2, abs=0.03)
    assert str(fitted) == f"temperature {fitted.temperature:.2f} and offset {fitted.offset:.2f}"


def test_calibration_on_other_pictures_lowers_the_error():
    fitted = fit_calibration(*made(400, overconfident=3, seed=1))
    dataset, logits = made(5000, overconfident=3, seed=2)
    assert fitted is not None
    assert reliability(dataset, logits).ece > 0.08
    assert reliability(dataset, fitted.rescaled(logits)).ece < 0.02


def test_one_line_for_all_classes_harms_honest_probabilities_less_than_one_for_each():
    dataset, logits = made(5000, seed=2)
    errors = []
    for seed in range(3, 13):
        few, scores = made(60, seed=seed)
        fitted = fit_calibration(few, scores)
        lines = [fit_line(few.labels[:, column] == 1, scores[:, column]) for column in range(3)]
        assert fitted is not None
        assert all(lines)
        own = np.column_stack([line.rescaled(column) for line, column in zip(lines, logits.T, strict=True)])
        errors.append([reliability(dataset, rescaled).class_ece for rescaled in (fitted.rescaled(logits), own)])
    shared, separate = np.mean(errors, axis=0)
    assert shared < 0.7 * separate


def test_no_rescaling_changes_an_average_precision():
    dataset, logits = made(300, overconfident=2)
    fitted = fit_calibration(dataset, logits)
    assert fitted is not None
    before = average_precisions(dataset, logits)
    assert average_precisions(dataset, fitted.rescaled(logits)) == before


def test_thresholds_that_are_moved_along_decide_the_same():
    dataset, logits = made(300, overconfident=2, offset=1)
    fitted, thresholds = fit_calibration(dataset, logits), choose_thresholds(dataset, logits)
    assert fitted is not None
    assert fitted.method == "platt"
    moved = fitted.moved(thresholds)
    assert np.abs(moved.values - thresholds.values).max() > 0.02
    decided = expit(fitted.rescaled(logits)) >= moved.values
    np.testing.assert_array_equal(decided, expit(logits.astype(float)) >= thresholds.values)


def test_a_rare_class_and_one_ranked_worse_than_by_chance_share_a_threshold():
    dataset, logits = made(400)
    positives = np.flatnonzero(dataset.labels[:, 0] == 1)
    dataset.labels[positives[LEAST_POSITIVES - 1:], 0] = 0
    logits[:, 1] *= -1
    chosen = choose_thresholds(dataset, logits)
    assert [entry.chosen for entry in chosen.classes.values()] == ["shared", "shared", "class"]
    assert chosen.classes["class0"].threshold == chosen.classes["class1"].threshold == chosen.shared


def test_perfectly_separated_logits_have_a_finite_fit_to_platts_targets():
    truth = np.arange(100) < 20
    line = fit_line(truth, 2.0 * truth - 1)  # 1 and -1: both targets can be met exactly
    assert line is not None
    high, low = 1 / (1 + np.exp(-line.rescaled(np.array([1.0, -1.0]))))
    assert (high, low) == (pytest.approx(21 / 22, abs=1e-4), pytest.approx(1 / 82, abs=1e-4))


def test_a_network_worse_than_chance_keeps_its_probabilities():
    dataset, logits = made(300)
    assert fit_calibration(dataset, -logits) is None


def test_without_a_positive_there_is_nothing_to_fit():
    dataset, logits = made(50)
    dataset.labels[:] = 0
    assert fit_calibration(dataset, logits) is None
    assert reliability(dataset, logits).ece > 0.1


def test_ignored_entries_count_nowhere():
    dataset, logits = made(200)
    dataset.ignored[:20] = True
    dataset.labels[:20] = 0
    moved = logits.copy()
    moved[:20] = 30
    assert fit_calibration(dataset, moved) == fit_calibration(dataset, logits)
    assert reliability(dataset, moved) == reliability(dataset, logits)
    dataset.ignored[:, 0] = True
    assert np.isnan(reliability(dataset, logits).classes["class0"])
    known = [error for error in reliability(dataset, logits).classes.values() if not np.isnan(error)]
    assert reliability(dataset, logits).class_ece == pytest.approx(np.mean(known))


def test_what_is_read_is_what_was_written(tmp_path: Path):
    dataset, logits = made(200)
    fitted = fit_calibration(dataset, logits)
    assert fitted is not None
    assert read_calibration(tmp_path, dataset.classes) is None
    write_fitted(tmp_path, Fitted(calibration=fitted), dataset.classes)
    assert read_calibration(tmp_path, dataset.classes) == fitted


def test_a_file_of_version_0_4_with_lines_of_the_classes_gives_its_temperature(tmp_path: Path):
    lines = {"a": {"slope": 0.5, "offset": -1.0, "fitted": "class"},
             "b": {"slope": 0.4, "offset": 0, "fitted": "shared"}}
    (tmp_path / "calibration.json").write_text(json.dumps({"split": "val", "temperature": 2.5, "classes": lines}))
    assert read_calibration(tmp_path, ("a", "b")) == Calibration("val", 2.5)


@pytest.mark.parametrize(("key", "value"), [("temperature", -1), ("temperature", "hot"), ("offset", float("inf"))])
def test_a_file_that_is_not_the_runs_calibration_is_named(tmp_path: Path, key: str, value: object):
    dataset, logits = made(200)
    fitted = fit_calibration(dataset, logits)
    assert fitted is not None
    write_fitted(tmp_path, Fitted(calibration=fitted), dataset.classes)
    values = json.loads((tmp_path / "calibration.json").read_text())
    values[key] = value
    (tmp_path / "calibration.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"calibration\.json: not the calibration of a run"):
        read_calibration(tmp_path, dataset.classes)
