"""The order of the pictures, and what the tf.data graph makes of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow as tf

from voc_cls.data.augmentation import Augmentation
from voc_cls.data.dataset import IGNORED
from voc_cls.data.pipeline import (
    Order,
    cached_images,
    image_batches,
    naming_broken_images,
    shuffled_order,
    training_batches,
    view_batches,
)
from voc_cls.data.preprocessing import decode, preprocess
from voc_cls.errors import DataError, UsageError
from voc_cls.image_decoder import Preprocessing

pytestmark = pytest.mark.slow  # takes seconds; `make test-fast` leaves it out

SMALL = Preprocessing(size=8, mean=(0.0, 0.0, 0.0))
REAL = Preprocessing(size=24, mean=(123.68, 116.78, 103.94))
FLIP = Augmentation(horizontal=True)
EVERYTHING = Augmentation(horizontal=True, vertical=True, zoom=0.1, shift=0.1, rotation=10.0, randaugment=True,
                          mixup=0.2, cutmix=1.0)
TARGETS = np.arange(10, dtype=np.float32)[:, None]


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


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    """Ten colourful PNGs of odd sizes, the same in every process."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"photo{number}.png" for number in range(10)]
    for number, path in enumerate(paths):
        coarse = random.integers(0, 256, (5, 7, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (30 + number, 41 - number), interpolation=cv2.INTER_CUBIC))
    return paths


def digest(batches: Iterable[tuple[Any, Any]]) -> str:
    together = hashlib.sha256()
    for images, targets in batches:
        together.update(images.numpy().tobytes() + targets.numpy().tobytes())
    return together.hexdigest()


def everything(paths: list[Path], pictures: Any = None) -> tf.data.Dataset:
    targets = np.eye(10, dtype=np.float32)
    targets[3, 4] = IGNORED
    return training_batches(paths, targets, shuffled_order(10, 6, 5, seed=3), REAL, EVERYTHING, pictures)


def test_every_epoch_has_each_picture_once_in_another_order():
    order = shuffled_order(images=10, steps=6, batch_size=5, seed=0)
    epochs = order.index.reshape(3, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_same_seed_gives_the_same_order_and_another_seed_another():
    first, same, other = (shuffled_order(100, 10, 32, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.index, same.index)
    assert np.array_equal(first.draw, same.draw)
    assert not np.array_equal(first.index, other.index)
    assert not np.array_equal(first.draw, other.draw)


def test_a_longer_run_begins_as_a_shorter_one():
    short, long = shuffled_order(10, 3, 4, seed=1), shuffled_order(10, 30, 4, seed=1)
    assert np.array_equal(long.steps_between(0, 3).index, short.index)
    assert np.array_equal(long.steps_between(0, 3).draw, short.draw)


def test_no_two_draws_are_equal_and_each_of_their_flip_bits_is_set_half_of_the_time():
    draws = shuffled_order(1000, 10, 100, 0).draw
    assert draws.dtype == np.int64
    assert draws.min() >= 0
    assert len(np.unique(draws)) == 1000
    for bit in (1, 2):
        assert 0.45 < (draws & bit > 0).mean() < 0.55


def test_hosts_share_every_batch_without_gap_or_overlap():
    order = shuffled_order(100, 5, 12, seed=0)
    parts = [order.shard(rank, 3) for rank in range(3)]
    assert {part.index.shape for part in parts} == {(5, 4)}
    assert np.array_equal(np.concatenate([part.index for part in parts], axis=1), order.index)
    assert np.array_equal(np.concatenate([part.draw for part in parts], axis=1), order.draw)


def test_a_batch_that_cannot_be_split_evenly_is_refused():
    with pytest.raises(UsageError, match="`batch_size` 10: cannot be split evenly among `hosts` 4; choose a multiple"):
        shuffled_order(100, 5, 10, seed=0).shard(0, 4)


def test_batches_follow_the_order_and_flip_where_the_draw_is_odd(pictures: list[Path]):
    order = shuffled_order(10, 4, 5, seed=3)
    batches = list(training_batches(pictures, TARGETS, order, SMALL, FLIP))
    assert len(batches) == 4
    for step, (images, labels) in enumerate(batches):
        assert np.array_equal(labels[:, 0], order.index[step])
        left, right = images[:, 0, 0, 0].numpy(), images[:, 0, -1, 0].numpy()
        assert np.array_equal(left > right, order.draw[step] % 2 == 1)
        assert np.array_equal(np.minimum(left, right), order.index[step] * 20)


def test_unaugmented_pixels_are_those_of_preprocess_mirrored_where_flips_are_on(photographs: list[Path]):
    plain = np.stack([preprocess(decode(tf.constant(path.read_bytes()), REAL), REAL) for path in photographs])
    order = Order(np.arange(10)[None], np.arange(10)[None])
    (images, _), = training_batches(photographs, TARGETS, order, REAL, Augmentation())
    assert np.array_equal(images, plain)
    (images, _), = training_batches(photographs, TARGETS, order, REAL, FLIP)
    assert np.array_equal(images[0::2], plain[0::2])
    assert np.array_equal(images[1::2], plain[1::2, :, ::-1])


def test_what_an_example_looks_like_depends_on_its_draw_and_not_on_its_place(photographs: list[Path]):
    alone = Augmentation(horizontal=True, zoom=0.1, shift=0.1, rotation=10.0, randaugment=True)
    order = shuffled_order(10, 4, 5, seed=3)
    backwards = Order(order.index[::-1, ::-1], order.draw[::-1, ::-1])
    first, second = ([images for images, _ in training_batches(photographs, TARGETS, chosen, REAL, alone)]
                     for chosen in (order, backwards))
    assert np.array_equal(np.stack(first), np.stack(second)[::-1, ::-1])


def test_a_run_that_goes_on_in_the_middle_sees_what_it_would_have_seen(photographs: list[Path]):
    order = shuffled_order(10, 6, 5, seed=3)
    whole, rest = (training_batches(photographs, TARGETS, chosen, REAL, EVERYTHING)
                   for chosen in (order, order.steps_between(4, 6)))
    assert digest(whole.skip(4)) == digest(rest)


@pytest.mark.parametrize("threads", [1, 7])
def test_the_number_of_threads_changes_no_bit(photographs: list[Path], threads: int):
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = threads
    assert digest(everything(photographs).with_options(options)) == digest(everything(photographs))


def test_on_keras_jax_backend_the_batches_are_the_same_bits(photographs: list[Path]):
    pytest.importorskip("jax")
    program = ("import sys; from pathlib import Path; import keras; assert keras.backend.backend() == 'jax'; "
               "from tests.unit.data.test_pipeline import digest, everything; "
               "print(digest(everything([Path(name) for name in sys.argv[1:]])))")
    done = subprocess.run([sys.executable, "-c", program, *map(str, photographs)], capture_output=True, text=True,
                          check=True, cwd=Path(__file__).parents[3],
                          env={**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert done.stdout.split()[-1] == digest(everything(photographs))


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_decoded_pictures_that_are_kept_change_no_bit_however_often_they_are_read(photographs: list[Path], cache: Any,
                                                                                 tmp_path: Path):
    said: list[str] = []
    kept = cached_images(photographs, REAL, cache, tmp_path / "cache", 1e9, said.append)
    from_files = digest(everything(photographs))
    assert [digest(everything(photographs, kept)) for _ in range(2)] == [from_files, from_files]
    assert "decoded pictures: " in said[0]
    for path in photographs:
        path.unlink()  # so they are not read again
    assert digest(everything(photographs, kept)) == from_files


def test_pictures_kept_on_disk_are_decoded_once_for_all_runs(photographs: list[Path], tmp_path: Path):
    said: list[str] = []
    first = cached_images(photographs[:7], REAL, "disk", tmp_path / "cache", 1e9, said.append)
    second = cached_images(photographs, REAL, "disk", tmp_path / "cache", 1e9, said.append)
    assert first is not None
    assert second is not None
    assert np.array_equal(second[np.arange(7)], first[np.arange(7)])
    assert "7 from the cache, 3 to compute" in said[1]
    assert cached_images(photographs, REAL, "none", tmp_path, 1e9, said.append) is None


def test_more_pictures_than_memory_are_refused_before_any_is_decoded(tmp_path: Path):
    huge, many = Preprocessing(size=10**5, mean=(0.0, 0.0, 0.0)), [tmp_path / "missing.jpg"] * 1000
    with pytest.raises(UsageError, match=r"`cache` memory: 1,000 pictures need 120000\.0 GB, more than half of this"):
        cached_images(many, huge, "memory", tmp_path, 1e9, print)


def test_inference_sees_every_picture_once_in_order(pictures: list[Path]):
    batches = list(image_batches(pictures, 4, SMALL))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert np.array_equal(np.concatenate(batches)[:, 0, 0, 0], np.arange(10) * 20)


def test_inference_can_see_each_picture_followed_by_its_mirror_image(pictures: list[Path]):
    rows = np.concatenate([batch[:, 0, :, 0] for batch in image_batches(pictures, 4, SMALL, mirrored=True)])
    assert np.array_equal(rows[0::2, 0], np.arange(10) * 20)
    assert np.array_equal(rows[1::2], rows[0::2, ::-1])


@pytest.mark.parametrize("augmentation", [Augmentation(horizontal=True, zoom=0.1, rotation=10.0),
                                          Augmentation(horizontal=True, crop="random"),
                                          Augmentation(crop="multi-scale", zoom=0.1)])
def test_views_are_what_training_makes_of_the_same_draws(photographs: list[Path], augmentation: Augmentation):
    draws = [[7, 8, 9], [10], [], [11, 12]]
    batches = list(view_batches(photographs[:4], draws, 4, REAL, augmentation))
    assert [len(batch) for batch in batches] == [4, 2]
    order = Order(np.array([[0, 0, 0, 1, 3, 3]]), np.array([[7, 8, 9, 10, 11, 12]]))
    (images, _), = training_batches(photographs, TARGETS, order, REAL, augmentation)
    assert np.array_equal(np.concatenate(batches), images)


def test_the_views_of_a_picture_do_not_touch_each_other(photographs: list[Path]):
    augmentation = Augmentation(randaugment=True)  # some draws leave the picture as it is
    draws = [draw << 2 for draw in range(60)]
    views = np.concatenate(list(view_batches(photographs[:1], [draws + draws[::-1]], 16, REAL, augmentation)))
    assert np.array_equal(views[:60], views[60:][::-1])


def test_a_broken_picture_is_named_although_tf_data_knows_no_names(pictures: list[Path]):
    pictures[7].write_bytes(pictures[7].read_bytes()[:40])
    with pytest.raises(DataError, match=r"7\.png: is a damaged PNG picture"), naming_broken_images(pictures):
        list(image_batches(pictures, 4, SMALL))
