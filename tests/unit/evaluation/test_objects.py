"""Sizes and pointing: few pictures, counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.objects import BOX, TOLERANCE, by_size, pointing_game

WIDTH, HEIGHT = 400, 300


def dataset(labels: Sequence[Sequence[float]]) -> Dataset:
    values = np.array(labels, np.float32)
    names = ("cat", "dog")[:values.shape[1]]
    paths = tuple(Path(f"{row}.jpg") for row in range(len(values)))
    return Dataset("made", names, paths, values, np.zeros(values.shape, bool))


def box(row: int, column: int, left: float, top: float, right: float, bottom: float, difficult: bool = False
        ) -> tuple[object, ...]:
    return row, column, left, top, right, bottom, WIDTH, HEIGHT, difficult


def test_the_positives_of_a_size_are_ranked_against_all_negatives_and_no_other_positives():
    pictures = dataset([[1], [1], [1], [0], [0]])
    boxes = np.array([box(0, 0, 0, 0, 400, 300), box(1, 0, 0, 0, 100, 100), box(2, 0, 10, 10, 20, 20),
                      box(1, 0, 0, 0, 10, 10),  # a picture is of the size of its largest object
                      box(2, 0, 0, 0, 400, 300, difficult=True)], BOX)
    logits = np.array([[5.0], [3.0], [1.0], [4.0], [2.0]])
    sizes = by_size(pictures, boxes, logits, resamples=100)
    results = {size: (precisions.map, precisions.classes[0].positives) for size, (precisions, _) in sizes.items()}
    assert results == {"large": (1, 1), "medium": (1 / 2, 1), "small": (1 / 3, 1)}
    assert pictures.labels.sum() == 3


def test_a_size_that_a_class_does_not_have_is_left_out_of_the_mean():
    pictures = dataset([[1, 0], [0, 1], [0, 0]])
    boxes = np.array([box(0, 0, 0, 0, 400, 300), box(1, 1, 0, 0, 10, 10)], BOX)
    sizes = by_size(pictures, boxes, np.array([[1.0, 0], [0, 1], [0, 0]]), resamples=100)
    assert [sizes[size][0].map for size in ("small", "large")] == [1, 1]
    assert np.isnan(sizes["medium"][0].map)


def pointed(x: float, y: float) -> np.ndarray:
    """A map of 30 × 40 cells, 10 pixels each, whose maximum is in the cell with this pixel."""
    heat = np.full((30, 40), 0.5, np.float32)
    heat[int(y // 10), int(x // 10)] = 1
    return heat


@pytest.mark.parametrize(("x", "y", "hit"), [
    (105, 105, 1), (195, 145, 1), (85, 105, 1), (75, 105, 0), (215, 145, 1), (225, 145, 0), (85, 85, 0), (105, 155, 1)])
def test_a_maximum_in_a_box_or_at_most_the_tolerance_beside_it_is_a_hit(x: float, y: float, hit: int):
    assert TOLERANCE == 15
    pictures, boxes = dataset([[1]]), np.array([box(0, 0, 100, 100, 200, 150)], BOX)
    found = pointing_game(pictures, boxes, lambda *_: pointed(x, y)[None])
    assert (found.accuracy, found.centre) == (hit, 1)


def test_every_class_on_a_picture_is_asked_once_and_the_mean_is_over_the_classes():
    pictures = dataset([[1, 1], [1, 0], [1, 0], [0, 1]])
    boxes = np.array([box(0, 0, 0, 0, 50, 50), box(0, 0, 300, 200, 400, 300), box(0, 1, 0, 0, 50, 50),
                      box(1, 0, 0, 0, 50, 50), box(2, 0, 0, 0, 400, 300),
                      box(3, 0, 0, 0, 400, 300)], BOX)  # the last is ignored or of a label that was taken away
    asked: list[tuple[str, str]] = []

    def heat_maps(paths: Sequence[Path], labels: Sequence[str]) -> np.ndarray:
        asked.extend((path.name, label) for path, label in zip(paths, labels, strict=True))
        return np.stack([pointed(350, 250), pointed(350, 250), pointed(350, 250), np.zeros((30, 40))])

    found = pointing_game(pictures, boxes, heat_maps)
    assert asked == [("0.jpg", "cat"), ("0.jpg", "dog"), ("1.jpg", "cat"), ("2.jpg", "cat")]
    assert found.classes == {"cat": pytest.approx(1 / 3), "dog": 0}  # the second box; no; an empty map
    assert found.accuracy == pytest.approx(1 / 6)
    assert found.centre == pytest.approx(1 / 6)


def test_without_a_box_of_a_positive_there_is_nothing_to_point_at():
    found = pointing_game(replace(dataset([[0]]), classes=("cat",)), np.array([], BOX),
                          lambda *_: np.zeros((0, 30, 40), np.float32))
    assert np.isnan([found.accuracy, found.centre, found.classes["cat"]]).all()
