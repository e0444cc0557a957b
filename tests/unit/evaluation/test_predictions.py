"""Predictions of images as records and tables; predictions.csv can be read back whatever names there are."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax as reference

from voc_cls.data.dataset import Dataset, DifficultPolicy, Task
from voc_cls.evaluation.predictions import Predictions, probabilities_of, write_predictions

LOGITS = np.random.default_rng(0).normal(0, 5, (20, 6)).astype(np.float32)


def test_single_label_probabilities_sum_to_one_and_multi_label_ones_are_independent():
    single, multi = (probabilities_of(LOGITS, task) for task in (Task.SINGLE_LABEL, Task.MULTI_LABEL))
    assert single == pytest.approx(reference(LOGITS, axis=1), abs=1e-6)
    assert single.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert multi == pytest.approx(1 / (1 + np.exp(-LOGITS)), abs=1e-6)


def test_logits_of_any_size_give_numbers():
    huge = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4]], np.float32)
    assert probabilities_of(huge, Task.SINGLE_LABEL) == pytest.approx(np.array([[1, 0, 0], [1 / 3] * 3]))
    assert probabilities_of(huge, Task.SINGLE_LABEL).dtype == np.float32


def test_predictions_are_one_for_each_image_and_records_of_their_most_probable_labels(tmp_path: Path):
    paths = tuple(tmp_path / f"<{number}>.png" for number in range(30))
    for path in paths:
        Image.new("RGB", (4, 4)).save(path)
    predictions = Predictions(paths, ("a", "b & c", "d"), np.tile(np.float32([0.25, 0.75, 0.5]), (30, 1)),
                              Task.MULTI_LABEL, "run", top_k=2)
    assert [scored.label for scored in next(iter(predictions)).labels] == ["b & c", "d"]
    assert len(predictions) == len(list(predictions)) == 30
    assert len(predictions.to_records()) == 60
    assert predictions.to_records()[1] == {"file": str(paths[0]), "label": "d", "probability": 0.5}
    shown = predictions._repr_html_()
    assert shown.count("<img") == 24
    assert "<b>b &amp; c 75.0%</b>" in shown
    assert "&lt;0&gt;.png" in shown
    assert "6 more images" in shown


def written(folder: Path, names: tuple[str, ...], paths: tuple[Path, ...]) -> list[dict[str, str]]:
    labels = np.array([[1, 1, 0], [0, 0, 0]], np.float32)
    ignored = np.array([[False, False, True], [False, False, False]])
    dataset = Dataset("test", names, paths, labels, ignored, DifficultPolicy.IGNORE)
    write_predictions(folder / "predictions.csv", dataset, np.array([[0.75, 0.5, 0], [1 / 3, 1e-9, 1]], np.float32))
    with (folder / "predictions.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_names_with_spaces_and_commas_can_be_told_apart(tmp_path: Path):
    rows = written(tmp_path, ("traffic light", "salt, pepper", "cat"), (Path("a, b.jpg"), Path("2.jpg")))
    assert rows[0] == {"file": "a, b.jpg", "truth": "traffic light|salt, pepper", "ignored": "cat",
                       "traffic light": "0.750000", "salt, pepper": "0.500000", "cat": "0.000000"}
    assert (rows[1]["truth"], rows[1]["traffic light"]) == ("", "0.333333")


def test_files_of_the_same_name_in_two_folders_stay_apart(tmp_path: Path):
    rows = written(tmp_path, ("a", "b", "c"), (Path("/data/x/1.jpg"), Path("/data/y/1.jpg")))
    assert [row["file"] for row in rows] == ["x/1.jpg", "y/1.jpg"]
    rows = written(tmp_path, ("a", "b", "c"), (Path("/data/x/1.jpg"), Path("/data/x/2.jpg")))
    assert [row["file"] for row in rows] == ["1.jpg", "2.jpg"]


def test_a_file_name_that_is_not_unicode_is_kept_byte_by_byte(tmp_path: Path):
    rows = written(tmp_path, ("a", "b", "c"), (Path("caf\udce9.jpg"), Path("2.jpg")))
    assert rows[0]["file"] == "caf\udce9.jpg"
    assert b"caf\xe9.jpg" in (tmp_path / "predictions.csv").read_bytes()
