"""fit: exact numbers of steps, checkpoints that carry dropout's generators, loss scaling."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console

from voc_cls.data.pipeline import feature_batches, shuffled_order
from voc_cls.errors import RunError
from voc_cls.training.fit import finite, fit
from voc_cls.training.part import Part
from voc_cls.training.run_folder import RunFolder

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(2, 30, 8)).astype(np.float32)
TARGETS = (RANDOM.random((30, 3)) < 0.5).astype(np.float32)


def part(dtype: str = "float32") -> Part:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(16, dtype=dtype)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(hidden))
    return Part(model, lambda order: feature_batches(FEATURES, TARGETS, order), lambda dataset: dataset, "")


def train(folder: Path, steps: int, of: int, dtype: str = "float32") -> keras.Model:
    """Trains `steps` of the `of` steps whose order was planned, as a run killed at a checkpoint has."""
    folder.mkdir(exist_ok=True)
    trained = part(dtype)
    order = shuffled_order(30, of, 4, seed=0)
    planned = type(order)(order.index[:steps], order.flip[:steps])
    fit(trained, planned, 1e-2, 5, None, RunFolder(folder), lambda: None, jit=False, console=Console(quiet=True))
    return trained.model


def test_a_run_with_dropout_goes_on_bit_for_bit(tmp_path: Path):
    whole = train(tmp_path / "whole", 20, of=20)
    train(tmp_path / "parts", 10, of=20)
    resumed = train(tmp_path / "parts", 20, of=20)
    for ours, theirs in zip(resumed.variables, whole.variables, strict=True):
        assert np.array_equal(ours.numpy(), theirs.numpy()), ours.path


def test_exactly_the_steps_asked_for_are_taken(tmp_path: Path):
    assert int(train(tmp_path / "run", 13, of=13).optimizer.iterations.numpy()) == 13


def test_float16_layers_are_trained_with_a_scaled_loss(tmp_path: Path):
    assert isinstance(train(tmp_path / "run", 5, of=5, dtype="mixed_float16").optimizer,
                      keras.optimizers.LossScaleOptimizer)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    np.savez(tmp_path / "checkpoints/resume.npz", step=5, v0=np.zeros(3))
    with pytest.raises(RunError, match="has 1 variables"):
        train(tmp_path, 10, of=10)


def test_a_checkpoint_that_is_no_file_of_ours_is_refused(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/resume.npz").write_bytes(b"half")
    with pytest.raises(RunError, match="cannot be read"):
        train(tmp_path, 10, of=10)


def test_outputs_that_are_no_numbers_end_the_run():
    with pytest.raises(RunError, match="diverged"):
        finite(np.array([[0.0, np.nan]], np.float32))
