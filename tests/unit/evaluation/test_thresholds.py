"""Thresholds: the highest F1 by brute force, on other pictures too; rare classes share one; the file is checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import f1_score, precision_recall_curve

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.errors import RunError
from voc_cls.evaluation.calibration import (
    LEAST_POSITIVES,
    Calibration,
    best_f1_threshold,
    choose_thresholds,
    default_thresholds,
    fit_line,
    read_thresholds,
)
from voc_cls.evaluation.tasks import Fitted, write_fitted

LABELS = ("common", "rare")


def validation(positives: tuple[int, int] = (40, LEAST_POSITIVES - 1), ignored: int = 0,
               seed: int = 0) -> tuple[Dataset, np.ndarray]:
    """200 pictures; the rare class's logits are 2 lower than the common one's."""
    random = np.random.default_rng(seed)
    labels = np.zeros((200, 2), np.float32)
    for column, number in enumerate(positives):
        labels[random.permutation(200)[:number], column] = 1
    logits = (2 * labels + random.normal(size=labels.shape) - [1, 3]).astype(np.float32)
    left_out = np.zeros(labels.shape, bool)
    left_out[labels.argmin(axis=0)[0], 0] = bool(ignored)
    paths = tuple(Path(f"{row}.jpg") for row in range(200))
    return Dataset("voc val", LABELS, paths, labels, left_out, DifficultPolicy.IGNORE), logits


def highest_f1_threshold(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """The rule that was not taken: the threshold with the highest F1 on these very pictures."""
    precision, recall, values = precision_recall_curve(truth, probabilities)
    return float(values[np.argmax(precision[:-1] * recall[:-1] / (precision[:-1] + recall[:-1] + 1e-12))])


def drawn(pictures: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One class with a positive in eight, and logits that are 1.5 times too large and 1 too high."""
    random = np.random.default_rng(seed)
    truth = random.random(pictures) < 1 / 8
    evidence = 3 * truth + 1.5 * random.normal(size=pictures)
    return truth, 1.5 * (3 * (evidence - 1.5) / 1.5 ** 2 - np.log(7)) + 1


@pytest.mark.parametrize("line", [Calibration("", 1), Calibration("", 2, -1), Calibration("", 0.5, 0.5)], ids=str)
def test_no_set_of_pictures_has_a_higher_expected_f1(line: Calibration):
    _, logits = drawn(100, seed=0)
    calibrated = expit(line.rescaled(logits))
    decided = np.arange(101)[:, None] > np.argsort(np.argsort(-calibrated))  # the k most probable, k = 0 … 100
    expected = 2 * (decided * calibrated).sum(axis=1) / (decided.sum(axis=1) + calibrated.sum())
    chosen = expit(logits) >= best_f1_threshold(logits, line)
    assert 2 * calibrated[chosen].sum() / (chosen.sum() + calibrated.sum()) == pytest.approx(expected.max())


def test_the_threshold_of_three_pictures_worked_by_hand():
    # the best two: 2 × 1.5 / (2 + 1.6) = 5/6; one alone: 2 × 0.9 / (1 + 1.6) = 0.69; all three: 3.2 / 4.6 = 0.70
    probabilities = np.array([0.9, 0.6, 0.1])
    logits = np.log(probabilities / (1 - probabilities))
    assert best_f1_threshold(logits, Calibration("", 1)) == pytest.approx(5 / 12)
    assert best_f1_threshold((logits - 1) / 2, Calibration("", 0.5, 1)) == pytest.approx(
        float(expit((np.log(5 / 7) - 1) / 2)))


def test_many_pictures_lead_to_the_best_threshold_there_is():
    truth, logits = drawn(20_000, seed=0)
    chosen = f1_score(truth, expit(logits) >= best_f1_threshold(logits, fit_line(truth, logits)))
    best = f1_score(truth, expit(logits) >= highest_f1_threshold(truth, expit(logits)))
    assert best - 0.005 < chosen <= best


def test_on_other_pictures_it_is_better_than_the_highest_f1_of_a_few():
    others, logits = drawn(20_000, seed=99)
    scores = np.array([
        [f1_score(others, expit(logits) >= threshold) for threshold in
         (best_f1_threshold(few, fit_line(truth, few)), highest_f1_threshold(truth, expit(few)))]
        for truth, few in (drawn(120, seed) for seed in range(20))])  # some 15 positives each
    expected, highest = scores.mean(axis=0)
    assert expected > highest + 0.01


def test_a_class_with_few_positives_gets_the_threshold_that_is_best_for_all_together():
    dataset, logits = validation()
    chosen = choose_thresholds(dataset, logits)
    common, rare = chosen.classes.values()
    assert (common.chosen, rare.chosen, rare.positives) == ("class", "shared", LEAST_POSITIVES - 1)
    assert rare.threshold == chosen.shared
    assert common.threshold == best_f1_threshold(logits[:, 0], fit_line(dataset.labels[:, 0] == 1, logits[:, 0]))
    assert chosen.shared == best_f1_threshold(logits.ravel(), fit_line(dataset.labels.ravel() == 1, logits.ravel()))
    enough, logits = validation((40, LEAST_POSITIVES))
    assert choose_thresholds(enough, logits).classes["rare"].chosen == "class"


def test_a_validation_split_without_positives_and_a_network_worse_than_chance_leave_one_half():
    dataset, logits = validation((0, 0))
    assert choose_thresholds(dataset, logits) == default_thresholds(LABELS)
    dataset, logits = validation()
    assert choose_thresholds(dataset, -logits) == default_thresholds(LABELS)
    assert default_thresholds(LABELS).values.tolist() == [0.5, 0.5]


def test_ignored_entries_do_not_move_a_threshold():
    dataset, logits = validation(ignored=1)
    moved = logits.copy()
    moved[dataset.ignored] = 50
    assert choose_thresholds(dataset, moved) == choose_thresholds(dataset, logits)


def test_what_is_read_is_what_was_written(tmp_path: Path):
    chosen = choose_thresholds(*validation())
    assert read_thresholds(tmp_path, LABELS) is None
    write_fitted(tmp_path, Fitted(chosen), LABELS)
    assert read_thresholds(tmp_path, LABELS) == chosen


def change(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        values = json.loads(path.read_text())
        edit(values)
        path.write_text(json.dumps(values))

    return apply


@pytest.mark.parametrize(("damage", "found"), [
    (lambda path: path.write_text("{"), "cannot be read"),
    (lambda path: path.write_bytes(b"\xff\xfe"), "cannot be read"),
    (lambda path: path.write_text("[]"), "its classes are not those"),
    (change(lambda values: values["classes"].pop("rare")), "its classes are not those"),
    (change(lambda values: values["classes"]["rare"].update(threshold=1.5)), "1.5 is not a probability"),
    (change(lambda values: values["classes"]["rare"].update(threshold="high")), "not the thresholds of a run"),
    (change(lambda values: values["classes"]["rare"].update(threshold=float("nan"))), "nan is not a probability"),
    (change(lambda values: values["classes"].update(rare=0.5)), "not the thresholds of a run"),
    (change(lambda values: values.pop("shared")), "not the thresholds of a run"),
])
def test_a_file_that_is_not_the_runs_thresholds_is_named(tmp_path: Path, damage: Callable[[Path], object], found: str):
    write_fitted(tmp_path, Fitted(choose_thresholds(*validation())), LABELS)
    damage(tmp_path / "thresholds.json")
    with pytest.raises(RunError, match=rf"thresholds\.json.*{found}"):
        read_thresholds(tmp_path, LABELS)
