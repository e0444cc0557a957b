"""Batch normalisation as TF-Slim's fused operation has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from voc_cls.nets.layers import BatchNorm, Norm

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

NORM = Norm(decay=0.75, epsilon=1e-3, gamma=True)
VALUES = np.array([[1, 10], [2, 20], [3, 60], [6, 70]], np.float32).reshape(2, 2, 1, 2)


@pytest.fixture
def layer() -> BatchNorm:
    made = BatchNorm(NORM, "norm", "float32")
    made.build(VALUES.shape)
    return made


def test_the_moving_averages_follow_the_mean_and_the_unbiased_variance(layer: BatchNorm):
    layer(VALUES, training=True)
    flat = VALUES.reshape(4, 2)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.25 * flat.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.75 + 0.25 * flat.var(axis=0, ddof=1), rtol=1e-6)


def test_training_normalises_by_the_batchs_biased_variance(layer: BatchNorm):
    outputs = np.asarray(layer(VALUES, training=True)).reshape(4, 2)
    flat = VALUES.reshape(4, 2)
    np.testing.assert_allclose(outputs, (flat - flat.mean(axis=0)) / np.sqrt(flat.var(axis=0) + 1e-3), rtol=1e-5)


def test_a_frozen_layer_goes_by_its_moving_averages_and_leaves_them(layer: BatchNorm):
    layer.moving_mean.assign([1.0, 2.0])
    layer.moving_variance.assign([4.0, 9.0])
    layer.trainable = False
    outputs = np.asarray(layer(VALUES, training=True))
    np.testing.assert_allclose(outputs, (VALUES - [1, 2]) / np.sqrt(np.array([4, 9]) + 1e-3), rtol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), [1, 2])
    np.testing.assert_array_equal(layer.moving_variance.numpy(), [4, 9])


def test_a_single_value_gives_no_infinite_variance(layer: BatchNorm):
    layer(VALUES[:1, :1], training=True)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.75)


def test_without_gamma_there_is_none():
    layer = BatchNorm(Norm(decay=0.9, epsilon=1e-3, gamma=False), "norm", "float32")
    layer.build(VALUES.shape)
    assert [variable.name for variable in layer.weights] == ["beta", "moving_mean", "moving_variance"]


def test_large_values_keep_their_statistics_in_bfloat16():
    layer = BatchNorm(NORM, "norm", "mixed_bfloat16")
    values = np.tile(np.array([1000, 1008], np.float32), 50).reshape(100, 1, 1, 1)  # both exact in bfloat16
    outputs = np.asarray(layer(values, training=True)).astype(np.float32)
    np.testing.assert_allclose(np.abs(outputs), 1, rtol=1e-2)
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.25 * 1004, rtol=1e-6)


def test_on_two_devices_the_moving_averages_are_the_mean_of_theirs():
    program = Path(__file__).with_name("mirrored_norm.py")
    done = subprocess.run([sys.executable, "-W", "ignore", str(program)], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx([6.5, np.var([0, 1, 2, 3], ddof=1)])
