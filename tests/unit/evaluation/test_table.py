"""The table that voc-train and voc-eval print."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from rich.console import Console

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.evaluation.average_precision import evaluate
from voc_cls.evaluation.table import evaluation_table


def test_the_table_fits_80_columns_and_names_the_policy():
    labels = np.array([[1, 0], [0, 0]], np.float32)
    data = Dataset("VOC2007 test", ("cat", "pottedplant"), (Path("1.jpg"), Path("2.jpg")), labels,
                   np.zeros((2, 2), bool), DifficultPolicy.NEGATIVE)
    out = io.StringIO()
    Console(file=out, width=80).print(evaluation_table(evaluate(data, labels)))
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "difficult objects: negative" in text
    assert "100.0" in text
    assert "–" in text  # the class without positives
