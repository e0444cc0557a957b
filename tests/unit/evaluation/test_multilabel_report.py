"""The report of a multi-label model: one call, one dictionary that keeps what `voc-eval --json` always had."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.evaluation.average_precision import average_precisions
from voc_cls.evaluation.calibration import choose_thresholds, fit_calibration
from voc_cls.evaluation.decisions import multilabel_scores
from voc_cls.evaluation.report.multilabel import multilabel_report
from voc_cls.evaluation.report.page import json_ready

NAMES = ("bus", "car", "cat", "dog", "traffic light")


def made(seed: int, pictures: int = 150) -> tuple[Dataset, np.ndarray]:
    """The last class has no positives."""
    random = np.random.default_rng(seed)
    labels = (random.random((pictures, len(NAMES))) < [0.3, 0.2, 0.3, 0.2, 0]).astype(np.float32)
    ignored = (random.random(labels.shape) < 0.05) & (labels == 0)
    logits = (4 * labels + 2 * random.normal(size=labels.shape) - 3).astype(np.float32)
    paths = tuple(Path(f"{row}.jpg") for row in range(pictures))
    return Dataset("voc test", NAMES, paths, labels, ignored, DifficultPolicy.IGNORE), logits


def test_every_key_of_the_average_precisions_stays_and_the_rest_comes_beside_it():
    dataset, logits = made(0)
    validation = made(1)
    result = multilabel_report(dataset, logits, choose_thresholds(*validation), fit_calibration(*validation))
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    before = json_ready(average_precisions(dataset, logits).to_dict())
    assert {key: values[key] for key in before if key != "classes"} == {
        key: before[key] for key in before if key != "classes"}
    for name, entry in before["classes"].items():
        assert {key: values["classes"][name][key] for key in entry} == entry
    assert 0 < values["cf1"] < 1
    assert values["of1"] == pytest.approx(2 * values["op"] * values["or"] / (values["op"] + values["or"]))
    assert values["top_3"]["or"] > values["top_3"]["op"]
    assert values["classes"]["traffic light"]["recall"] is None
    assert values["classes"]["bus"]["threshold"] == values["thresholds"]["classes"]["bus"]["threshold"] != 0.5
    for key in ("map", "map_11pt", "cf1", "of1"):
        low, high = values["intervals"][key]
        assert low < values[key] < high
    assert values["calibration"]["platt"]["ece"] < values["calibration"]["raw"]["ece"]


def test_without_a_validation_split_thresholds_are_one_half_and_nothing_is_calibrated():
    dataset, logits = made(0)
    result = multilabel_report(dataset, logits)
    expected = multilabel_scores(dataset, expit(logits), np.full(len(NAMES), 0.5))
    assert (result.scores.overall, result.scores.top_k) == (expected.overall, expected.top_k)
    values = result.to_dict()
    assert (values["thresholds"]["split"], values["calibration"]["fitted"]) == (None, None)
    assert values["calibration"]["raw"]["ece"] == pytest.approx(result.reliability.ece)


def test_asking_for_some_classes_is_having_only_these():
    dataset, logits = made(0)
    validation = made(1)
    thresholds, calibration = choose_thresholds(*validation), fit_calibration(*validation)
    columns = [1, 2]
    alone = replace(dataset, classes=("car", "cat"), labels=dataset.labels[:, columns],
                    ignored=dataset.ignored[:, columns])
    asked = multilabel_report(dataset, logits, thresholds, calibration, classes=["cat", "car"])
    assert asked.to_dict() == multilabel_report(alone, logits[:, columns], thresholds, calibration).to_dict()
    assert [result.name for result in asked.scores.classes] == ["car", "cat"]
    assert asked.scores.top_k is None


def test_a_report_shows_itself_in_a_notebook_and_its_classes_are_records():
    report = multilabel_report(*made(0), resamples=100)
    records = report.per_class
    assert [record["class"] for record in records] == list(NAMES)
    assert records[0]["ap_low"] < records[0]["ap"] < records[0]["ap_high"]
    assert np.mean([record["ap"] for record in records[:-1]]) == pytest.approx(report.map)
    assert np.isnan(records[-1]["ap"])  # pandas knows NaN
    assert repr(report).startswith(f"voc test, 150 pictures: mAP {100 * report.map:.1f} %")
    assert "<td>traffic light</td><td>–</td>" in report._repr_html_()


def test_a_report_can_be_sent_to_another_process_without_its_network():
    report = replace(multilabel_report(*made(0), resamples=100), heat_maps=lambda *_: np.zeros((0, 1, 1), np.float32))
    assert report.heat_maps is not None
    received = pickle.loads(pickle.dumps(report))
    assert received.heat_maps is None
    assert received.to_dict() == report.to_dict()
