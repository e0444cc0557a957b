"""mixup and CutMix: pixels and labels are mixed in the same proportion, and what is ignored stays so."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from voc_cls.data.augmentation import Augmentation
from voc_cls.data.dataset import IGNORED
from voc_cls.data.mixup import mixed_targets, mixer

BATCH = 8


@pytest.fixture
def batch() -> tuple[tf.Tensor, tf.Tensor]:
    """Picture k has the grey level k everywhere and the label k alone."""
    levels = np.arange(BATCH, dtype=np.float32)
    return tf.constant(np.broadcast_to(levels[:, None, None, None], (BATCH, 40, 40, 3))), tf.eye(BATCH)


def draws(first: int) -> tf.Tensor:
    return tf.constant([first, *range(1, BATCH)], tf.int64)


def mixed(batch: tuple[tf.Tensor, tf.Tensor], augmentation: Augmentation, draw: int) -> tuple[np.ndarray, np.ndarray]:
    images, targets = mixer(augmentation)(*batch, draws(draw))
    return images.numpy(), targets.numpy()


@pytest.mark.parametrize("augmentation", [Augmentation(mixup=0.5), Augmentation(cutmix=1.0),
                                          Augmentation(mixup=0.2, cutmix=0.5)])
def test_labels_are_mixed_as_the_pixels_are(batch: tuple[tf.Tensor, tf.Tensor], augmentation: Augmentation):
    partly = 0
    for draw in range(2**40, 2**40 + 10):
        images, targets = mixed(batch, augmentation, draw)
        assert images.mean(axis=(1, 2, 3)) == pytest.approx(targets @ np.arange(BATCH), abs=1e-4)
        assert targets.sum(axis=1) == pytest.approx(np.ones(BATCH), abs=1e-6)
        partly += int(((targets > 0.1) & (targets < 0.9)).any(axis=1).sum())
    assert partly > BATCH


def test_mixup_blends_whole_pictures_and_cutmix_pastes_a_rectangle(batch: tuple[tf.Tensor, tf.Tensor]):
    blended, _ = mixed(batch, Augmentation(mixup=1.0), 5)
    assert (blended == blended[:, :1, :1]).all()
    pasted, targets = mixed(batch, Augmentation(cutmix=1.0), 5)
    assert set(np.unique(pasted)) <= set(range(BATCH))
    cut = next(number for number in range(BATCH) if 0.2 < targets[number, number] < 0.8)
    foreign = pasted[cut, :, :, 0] != cut
    rows, columns = np.flatnonzero(foreign.any(axis=1)), np.flatnonzero(foreign.any(axis=0))
    assert foreign[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].all()


def test_with_both_each_batch_gets_one_of_them_about_equally_often(batch: tuple[tf.Tensor, tf.Tensor]):
    mix = mixer(Augmentation(mixup=1.0, cutmix=1.0))
    blends = [bool((images == images[:, :1, :1]).all()) for images, _ in
              ((pixels.numpy(), labels) for pixels, labels in (mix(*batch, draws(draw << 30)) for draw in range(40)))]
    assert 8 < sum(blends) < 32


def test_the_same_draw_mixes_the_same_way_and_another_draw_another(batch: tuple[tf.Tensor, tf.Tensor]):
    augmentation = Augmentation(mixup=0.5, cutmix=0.5)
    first, again, other = (mixed(batch, augmentation, draw)[0] for draw in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_entry_ignored_in_a_picture_that_takes_part_stays_ignored():
    targets = tf.constant([[1.0, IGNORED, 0.0], [0.0, 1.0, IGNORED]])
    partner = tf.constant([1, 0])
    assert mixed_targets(targets, partner, tf.constant([0.75, 0.25])).numpy().tolist() == [
        [0.75, IGNORED, IGNORED], [0.75, IGNORED, IGNORED]]
    assert mixed_targets(targets, partner, tf.constant([1.0, 0.0])).numpy().tolist() == [
        [1.0, IGNORED, 0.0], [1.0, IGNORED, 0.0]]
