"""predictions.csv can be read back whatever classes and files are called."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.evaluation.predictions import write_predictions


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
