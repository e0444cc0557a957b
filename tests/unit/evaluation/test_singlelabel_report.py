"""The report of a single-label model: the keys of `voc-eval --json`, the tables, and which weights are best."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.special import softmax

from voc_cls.data.dataset import Task
from voc_cls.evaluation.average_precision import average_precisions
from voc_cls.evaluation.calibration import fit_calibration
from voc_cls.evaluation.predictions import write_predictions
from voc_cls.evaluation.report.singlelabel import singlelabel_report
from voc_cls.evaluation.tables import report_tables
from voc_cls.evaluation.tasks import score

Make = Callable[..., Any]


def printed(result: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(report_tables(result))
    return out.getvalue()


def test_every_key_of_the_average_precisions_stays_and_the_rest_comes_beside_it(singlelabel: Make):
    dataset, logits = singlelabel(classes=7, pictures=400)
    result = singlelabel_report(dataset, logits, fit_calibration(*singlelabel(7, 400, seed=1)), resamples=200)
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    before = average_precisions(dataset, softmax(logits.astype(np.float64), axis=1)).to_dict()
    assert {key: values[key] for key in before if key != "classes"} == {
        key: before[key] for key in before if key != "classes"}
    for name, entry in before["classes"].items():
        assert {key: values['classes'][name][key] for key in entry} == entry
    predicted, truth = logits.argmax(axis=1), dataset.labels.argmax(axis=1)
    assert (values["task"], values["accuracy"]) == ("single-label", (predicted == truth).mean())
    assert sum(map(sum, values["confusion"]["counts"])) == 400
    assert values["accuracy"] < values["top_5"] < 1
    for key in ("accuracy", "top_5", "map", "map_11pt", "macro_f1"):
        low, high = values["intervals"][key]
        assert low < values.get(key, values["macro"]["f1"]) < high, key
    assert values["calibration"]["fitted"]["temperature"] > 0
    assert "thresholds" not in values


def test_the_intervals_are_those_of_drawing_the_pictures_again(singlelabel: Make):
    dataset, logits = singlelabel(classes=3, pictures=100)
    found = singlelabel_report(dataset, logits, resamples=2000).intervals.metrics["accuracy"]
    right = logits.argmax(axis=1) == dataset.labels.argmax(axis=1)
    spread = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 100)
    assert found.half_width == pytest.approx(spread, rel=0.1)


def test_asking_for_some_classes_leaves_the_accuracy_alone(singlelabel: Make):
    dataset, logits = singlelabel()
    whole = singlelabel_report(dataset, logits, resamples=100).to_dict()
    some = singlelabel_report(dataset, logits, classes=["class 2"], resamples=100).to_dict()
    assert list(some["classes"]) == ["class 2"]
    assert some["map"] == whole["classes"]["class 2"]["ap"]
    assert some["macro"]["f1"] == whole["classes"]["class 2"]["f1"]
    for key in ("accuracy", "log_loss", "confusion", "calibration"):
        assert some[key] == whole[key]


@pytest.mark.parametrize("classes", [2, 4, 12, 13, 100])
def test_the_tables_fit_80_columns_with_any_number_of_classes(singlelabel: Make, classes: int):
    text = printed(singlelabel_report(*singlelabel(classes=classes, pictures=5 * classes), resamples=100))
    assert max(map(len, text.splitlines())) <= 80
    assert ("Confusion, in pictures" in text) == (classes <= 12)
    assert ("Most frequent confusions" in text) == (classes > 12)


def test_the_table_says_accuracy_calibration_and_every_count(singlelabel: Make):
    dataset, logits = singlelabel()
    result = singlelabel_report(dataset, logits, fit_calibration(*singlelabel(seed=1)), resamples=100)
    text = printed(result)
    assert f"{100 * result.scores.accuracy:.1f} ± {100 * result.intervals.metrics['accuracy'].half_width:.1f}" in text
    assert "→" in text
    assert "top-3 accuracy" in text
    matrix = [[int(word) if word.isdigit() else 0 for word in line.split()[-4:]]
              for line in text.split("Confusion")[1].splitlines() if re.match(r"\s*\d+  ?class ", line)]
    assert matrix == result.scores.confusion.counts.tolist()


def test_predictions_name_the_most_probable_class(tmp_path: Path, singlelabel: Make):
    dataset, logits = singlelabel(pictures=3)
    write_predictions(tmp_path / "out.csv", dataset, softmax(logits, axis=1))
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "file,truth,predicted,class 0,class 1,class 2,class 3"
    for line, label, scores in zip(lines[1:], dataset.labels, logits, strict=True):
        assert line.split(",")[1:3] == [f"class {label.argmax()}", f"class {scores.argmax()}"]
        assert sum(map(float, line.split(",")[3:])) == pytest.approx(1, abs=1e-5)


def test_of_equal_accuracies_the_lower_loss_is_better_and_one_picture_more_beats_any_loss(singlelabel: Make):
    dataset, _ = singlelabel(pictures=5)
    right, sure = dataset.labels, 5 * dataset.labels
    one_wrong = sure.copy()
    one_wrong[0] = np.roll(one_wrong[0], 1)
    ranks = [score(dataset, logits).rank for logits in (sure, right, one_wrong)]
    assert ranks[0] > ranks[1] > ranks[2]
    badly_wrong = np.where(np.arange(5)[:, None] == 0, 1000 * one_wrong, sure)
    assert score(dataset, 1e-3 * right).rank > score(dataset, badly_wrong).rank
    assert set(score(dataset, right).metrics) == {"val_accuracy", "val_loss"}
    assert set(score(replace(dataset, task=Task.MULTI_LABEL), right).metrics) == {"val_map"}
