"""--val-split auto: a validation part taken out of the training split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voc_cls.errors import UsageError
from voc_cls.training.config import DatasetConfig
from voc_cls.training.splits import read_splits


@pytest.fixture
def chosen(devkit: Path) -> DatasetConfig:
    return DatasetConfig(root=devkit, val_fraction=0.3)


def test_the_parts_are_apart_and_together_the_whole_split(chosen: DatasetConfig):
    whole = read_splits(replace(chosen, val_split="none"), seed=0)
    carved = read_splits(chosen, seed=0)
    assert carved.val is not None
    assert whole.val is None
    assert set(carved.train.paths).isdisjoint(carved.val.paths)
    assert sorted(carved.train.paths + carved.val.paths) == sorted(whole.train.paths)
    by_path = dict(zip(whole.train.paths, whole.train.labels, strict=True))
    for path, labels in zip(carved.val.paths, carved.val.labels, strict=True):
        np.testing.assert_array_equal(labels, by_path[path])


def test_every_class_is_split_by_about_the_fraction(chosen: DatasetConfig):
    carved = read_splits(chosen, seed=0)
    assert carved.val is not None
    all_positives = carved.train.labels.sum(axis=0) + carved.val.labels.sum(axis=0)
    assert np.abs(carved.val.labels.sum(axis=0) - 0.3 * all_positives).max() <= 1.5


def test_the_seed_decides_which(chosen: DatasetConfig):
    first, again, other = (read_splits(chosen, seed).val for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.paths == again.paths != other.paths


@pytest.mark.parametrize("fraction", [0.0, 0.001, 1.0, -1.0, float("nan")])
def test_a_fraction_that_leaves_nothing_on_one_side_is_refused(chosen: DatasetConfig, fraction: float):
    with pytest.raises(UsageError, match="--val-fraction"):
        read_splits(replace(chosen, val_fraction=fraction), seed=0)
