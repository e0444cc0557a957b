"""Batches of features: the view that the draw means, the same from memory and from disk."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from voc_cls.data.feature_cache import CachedRows, FeatureCache
from voc_cls.data.pipeline import Order, shuffled_order
from voc_cls.training import backbone
from voc_cls.training.backbone import feature_batches, feature_rows

PICTURES, VIEWS = 10, 3
VALUES = np.arange(PICTURES * VIEWS * 4).reshape(-1, 2, 2).astype(ml_dtypes.bfloat16)
TARGETS = np.arange(PICTURES, dtype=np.float32)[:, None]


@pytest.fixture
def rows(tmp_path: Path) -> CachedRows:
    """VALUES, kept on disk in two blocks, in another order."""
    def compute(missing: list[int]) -> list[npt.NDArray[ml_dtypes.bfloat16]]:
        return [VALUES[missing]]

    items = [str(number) for number in range(len(VALUES))]
    cache = FeatureCache(tmp_path, 1, print)
    cache.rows({}, items[:9:-1], (2, 2), ml_dtypes.bfloat16, lambda _: [VALUES[:9:-1]], "rows")
    return cache.rows({}, items, (2, 2), ml_dtypes.bfloat16, compute, "rows")


@pytest.mark.parametrize("held_bytes", [1e9, 0])
def test_the_view_seen_is_the_draw_modulo_the_views(rows: CachedRows, held_bytes: float,
                                                    monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backbone, "HELD_BYTES", held_bytes)
    order = shuffled_order(PICTURES, 20, 5, seed=3)
    batches = list(feature_batches(rows, TARGETS, order))
    assert len(batches) == 20
    for (values, targets), index, draw in zip(batches, order.index, order.draw, strict=True):
        assert values.shape == (5, 2, 2)
        assert np.array_equal(values.numpy(), VALUES[index * VIEWS + draw % VIEWS])
        assert np.array_equal(targets[:, 0], index)
    assert len(set((order.draw % VIEWS).ravel())) == VIEWS


@pytest.mark.parametrize("held_bytes", [1e9, 0])
def test_for_inference_all_rows_come_in_order_as_often_as_asked(rows: CachedRows, held_bytes: float,
                                                               monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backbone, "HELD_BYTES", held_bytes)
    batches = feature_rows(rows.part(slice(3, 14)), 4)
    for _ in range(2):
        assert np.array_equal(np.concatenate([batch.numpy() for batch in batches]), VALUES[3:14])


def test_features_may_be_an_array_with_one_view():
    order = Order(np.array([[2, 0]]), np.array([[5, 4]]))
    [(values, _)] = feature_batches(np.arange(10, dtype=np.float32), TARGETS, order)
    assert values.numpy().tolist() == [2, 0]
