"""The order of the pictures, and what the tf.data graph makes of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from voc_cls.data.pipeline import (
    feature_batches,
    naming_broken_pictures,
    picture_batches,
    shuffled_order,
    training_batches,
)
from voc_cls.data.preprocessing import Preprocessing
from voc_cls.errors import DataError

SMALL = Preprocessing(size=8, mean=(0.0, 0.0, 0.0))


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Ten PNGs, each of one grey level on the left and another on the right."""
    paths = []
    for number in range(10):
        image = np.full((8, 8, 3), number * 20, np.uint8)
        image[:, 4:] += 10
        paths.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(paths[-1]), image)
    return paths


def test_every_epoch_has_each_picture_once_in_another_order():
    order = shuffled_order(pictures=10, steps=6, batch_size=5, seed=0)
    epochs = order.index.reshape(3, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_same_seed_gives_the_same_order_and_another_seed_another():
    first, same, other = (shuffled_order(100, 10, 32, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.index, same.index)
    assert np.array_equal(first.flip, same.flip)
    assert not np.array_equal(first.index, other.index)


def test_about_half_of_the_pictures_are_flipped_and_none_when_not_asked():
    assert 0.4 < shuffled_order(1000, 10, 100, 0).flip.mean() < 0.6
    assert not shuffled_order(1000, 10, 100, 0, flip=False).flip.any()


def test_batches_follow_the_order_and_flip_where_it_says(pictures: list[Path]):
    order = shuffled_order(10, 4, 5, seed=3)
    targets = np.arange(10, dtype=np.float32)[:, None]
    batches = list(training_batches(pictures, targets, order, SMALL))
    assert len(batches) == 4
    for step, (images, labels) in enumerate(batches):
        assert np.array_equal(labels[:, 0], order.index[step])
        left, right = images[:, 0, 0, 0].numpy(), images[:, 0, -1, 0].numpy()
        assert np.array_equal(left > right, order.flip[step])
        assert np.array_equal(np.minimum(left, right), order.index[step] * 20)


def test_cached_features_come_in_the_same_order_from_the_flipped_half_where_it_says():
    order = shuffled_order(10, 4, 5, seed=3)
    features = np.stack([np.arange(10), 100 + np.arange(10)]).astype(np.float32)[:, :, None]
    targets = np.arange(10, dtype=np.float32)[:, None]
    for step, (values, labels) in enumerate(feature_batches(features, targets, order)):
        assert np.array_equal(values[:, 0], order.index[step] + 100 * order.flip[step])
        assert np.array_equal(labels[:, 0], order.index[step])


def test_inference_sees_every_picture_once_in_order(pictures: list[Path]):
    levels = np.concatenate([batch[:, 0, 0, 0] for batch in picture_batches(pictures, 4, SMALL)])
    assert np.array_equal(levels, np.arange(10) * 20)


def test_inference_can_see_each_picture_followed_by_its_mirror_image(pictures: list[Path]):
    rows = np.concatenate([batch[:, 0, :, 0] for batch in picture_batches(pictures, 4, SMALL, mirrored=True)])
    assert np.array_equal(rows[0::2, 0], np.arange(10) * 20)
    assert np.array_equal(rows[1::2], rows[0::2, ::-1])


def test_a_broken_picture_is_named_although_tf_data_knows_no_names(pictures: list[Path]):
    pictures[7].write_bytes(pictures[7].read_bytes()[:40])
    with pytest.raises(DataError, match=r"7\.png: not a whole"), naming_broken_pictures(pictures, SMALL):
        list(picture_batches(pictures, 4, SMALL))
