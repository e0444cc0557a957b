"""Two models on the same pictures: differences with paired intervals, changed decisions, stored predictions."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lxml import html
from PIL import Image
from rich.console import Console
from scipy.special import expit, logit

from tests.unit.evaluation.test_multilabel_page import images_of
from voc_cls.data.dataset import Dataset, Task
from voc_cls.evaluation.bootstrap import draw, intervals_of
from voc_cls.evaluation.compare import Comparison, compare
from voc_cls.evaluation.predictions import read_logits, write_predictions
from voc_cls.evaluation.tables import comparison_tables
from voc_cls.evaluation.tasks import evaluate


def made(pictures: int = 300, classes: int = 2, folder: Path = Path()) -> tuple[Dataset, np.ndarray]:
    """Labels, and the logits of two models that err on the same pictures, the second less."""
    random = np.random.default_rng(0)
    labels = (random.random((pictures, classes)) < 0.3).astype(np.float32)
    names = tuple(f"class<{column}>" for column in range(classes))
    paths = tuple(folder / f"{row}.jpg" for row in range(pictures))
    noise = random.normal(size=labels.shape)
    logits = [gain * labels + noise + 0.1 * random.normal(size=labels.shape) for gain in (1.7, 2.0)]
    return Dataset("made", names, paths, labels, np.zeros(labels.shape, bool)), np.stack(logits)


def compared(dataset: Dataset, logits: np.ndarray, models: tuple[str, str] = ("a", "b"), resamples: int = 100
             ) -> Comparison:
    """At thresholds of 0.5."""
    return compare(*(evaluate(dataset, of_model, resamples=100) for of_model in logits), models, resamples)


def test_a_difference_that_either_interval_would_hide_is_seen_because_it_is_paired():
    dataset, logits = made()
    found = compared(dataset, logits, resamples=1000)
    mean = found.differences[0]
    assert mean.name == "mean"
    assert 0 < mean.interval.low < mean.b - mean.a < mean.interval.high
    drawn = draw(len(dataset), 1000)
    alone = [intervals_of(dataset, scores, drawn, {}).metrics["map"] for scores in logits]
    assert alone[0].high > alone[1].low  # they overlap
    assert mean.interval.half_width < 0.7 * alone[0].half_width


def test_a_model_against_itself_differs_in_nothing():
    dataset, logits = made()
    found = compared(dataset, np.stack([logits[0]] * 2))
    assert {(entry.b - entry.a, entry.interval.low, entry.interval.high, entry.corrected, entry.broken)
            for entry in found.differences} == {(0, 0, 0, 0, 0)}
    assert {change.verdict for change in found.changes} == {"same decision"}


def test_changed_decisions_come_first_and_ignored_labels_not_at_all():
    labels = np.array([[1], [0], [0], [0], [0], [1]], np.float32)
    dataset = Dataset("made", ("cat",), tuple(Path(f"{row}.jpg") for row in range(6)), labels, np.zeros((6, 1), bool))
    dataset.ignored[4] = True
    probabilities = np.array([[.4, .9, .2, .3, .8, .1], [.9, .4, .3, .6, .1, .2]])[..., None]
    found = compared(dataset, logit(probabilities))
    assert [(change.file, change.verdict, change.ranks) for change in found.changes] == [
        ("1.jpg", "corrected", (1, 3)), ("0.jpg", "corrected", (2, 1)), ("3.jpg", "broken", (3, 2)),
        ("2.jpg", "same decision", (4, 4)), ("5.jpg", "same decision", (5, 5))]
    assert (found.differences[1].corrected, found.differences[1].broken) == (2, 1)
    assert np.isnan(found.differences[1].interval.low)  # two positives are too few


def test_of_one_class_for_each_picture_the_true_one_decides():
    dataset = Dataset("made", ("cat", "dog"), (Path("0.jpg"), Path("1.jpg")), np.eye(2, dtype=np.float32),
                      np.zeros((2, 2), bool), task=Task.SINGLE_LABEL)
    found = compared(dataset, np.log([[[.4, .6], [.4, .6]], [[.7, .3], [.2, .8]]]))
    accuracy = next(entry for entry in found.differences if entry.name == "accuracy")
    assert (accuracy.a, accuracy.b, accuracy.corrected, accuracy.broken) == (0.5, 1, 1, 0)


def test_a_class_without_positives_has_no_difference():
    dataset, logits = made()
    dataset.labels[:, 1] = 0
    assert compared(dataset, logits).differences[-1].texts == ("–", "–")


def test_page_and_tables_show_both_models_and_believe_no_name(tmp_path: Path):
    dataset, logits = made(20, folder=tmp_path)
    for path in dataset.paths:
        Image.new("RGB", (40, 30)).save(path)
    found = compared(dataset, logits, ("runs/[a]", "<b>"))
    page = html.fromstring(found.to_html())
    assert page.xpath("//h1")[0].text == "<b> against runs/[a]"
    changed = {change.file for change in found.changes if change.verdict != "same decision"}
    assert {image["file"] for image in images_of(page)} == changed != set()
    assert len(page.xpath("//script")) == 2
    shown = io.StringIO()
    Console(file=shown, width=80).print(comparison_tables(found))
    assert "A: runs/[a]" in shown.getvalue()
    assert "class<0>" in shown.getvalue()
    assert found.to_dict()["changes"][0]["file"].endswith(".jpg")


def test_stored_predictions_are_read_if_they_are_of_these_pictures_labels_and_weights(tmp_path: Path):
    dataset, (logits, _) = made(30, folder=tmp_path)
    weights, stored = tmp_path / "weights.h5", tmp_path / "predictions.csv"
    weights.touch()
    assert read_logits(stored, dataset, weights) is None
    write_predictions(stored, dataset, expit(logits))
    assert read_logits(stored, dataset, weights) == pytest.approx(logits, abs=1e-3)
    assert read_logits(stored, dataset.subset(np.arange(29), "fewer"), weights) is None
    assert read_logits(stored, replace(dataset, labels=1 - dataset.labels), weights) is None
    assert read_logits(stored, dataset.only([1, 0]), weights) is None
    os.utime(weights, (2e9, 2e9))
    assert read_logits(stored, dataset, weights) is None
