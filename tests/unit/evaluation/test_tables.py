"""The table that voc-train and voc-eval print."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from rich.console import Console

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.evaluation.calibration import choose_thresholds, fit_calibration
from voc_cls.evaluation.report.multilabel import multilabel_report
from voc_cls.evaluation.tables import report_tables


def test_the_table_fits_80_columns_and_names_the_policy():
    labels = np.array([[1, 0], [0, 0]], np.float32)
    data = Dataset("VOC2007 test", ("cat", "pottedplant"), (Path("1.jpg"), Path("2.jpg")), labels,
                   np.zeros((2, 2), bool), DifficultPolicy.NEGATIVE)
    out = io.StringIO()
    Console(file=out, width=80).print(report_tables(multilabel_report(data, labels, resamples=100)))
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "difficult objects: negative" in text
    assert "100.0" in text
    assert "–" in text  # the class without positives


def made(seed: int) -> tuple[Dataset, np.ndarray]:
    random = np.random.default_rng(seed)
    names = ("cat", "diningtable", "traffic [red] light", "bus")
    labels = (random.random((120, 4)) < [0.3, 0.3, 0.02, 0.3]).astype(np.float32)
    logits = (4 * labels + 2 * random.normal(size=labels.shape) - 3).astype(np.float32)
    return Dataset("voc test", names, tuple(Path(f"{row}.jpg") for row in range(120)), labels,
                   np.zeros(labels.shape, bool), DifficultPolicy.IGNORE), logits


def test_both_tables_fit_80_columns_and_have_intervals_thresholds_and_calibration():
    validation = made(1)
    fitted = fit_calibration(*validation)
    assert fitted is not None
    result = multilabel_report(*made(0), choose_thresholds(*validation), fitted)
    out = io.StringIO()
    Console(file=out, width=80).print(report_tables(result))
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if line.startswith("│")}
    assert "traffic [red] light" in rows
    overall = result.scores.overall
    assert f"{100 * overall.cf1:.1f} ± {100 * result.intervals.metrics['cf1'].half_width:.1f}" in rows["by class"]
    assert f"{100 * overall.of1:.1f} ± {100 * result.intervals.metrics['of1'].half_width:.1f}" in rows["pooled"]
    assert result.calibrated is not None
    assert f"{100 * result.reliability.ece:.1f} → {100 * result.calibrated.ece:.1f}" in rows["pooled"]
    assert f"temperature {fitted.temperature:.2f}" in text
    assert f"{100 * result.map:.1f} ± {100 * result.intervals.metrics['map'].half_width:.1f}" in rows["mean"]
    assert "dim: too few positives for a threshold of its own" in text  # the traffic light


def test_without_a_validation_split_the_table_says_that_thresholds_are_one_half():
    out = io.StringIO()
    Console(file=out, width=80).print(report_tables(multilabel_report(*made(0))))
    assert "Decisions by thresholds of 0.5" in out.getvalue()
    assert "→" not in out.getvalue()
