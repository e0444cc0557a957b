"""Adam with a rate for every variable, its schedules, and the averaged weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from voc_cls.training.config import TrainingConfig
from voc_cls.training.optimizer import averaged_weights, build_optimizer, learning_rate


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])


def trained(steps: int = 3, factors: tuple[float, ...] = (1.0,) * 4, float16: bool = False, scale: float = 1.0,
            **config: object) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """A model after some steps on random gradients times `scale`, always the same ones."""
    built = model()
    optimizer = build_optimizer(TrainingConfig(**{"lr": 0.01, "steps": 10, **config}), factors, float16)  # type: ignore[arg-type]
    optimizer.build(built.trainable_variables)
    random = np.random.default_rng(0)
    for _ in range(steps):
        optimizer.apply([keras.ops.convert_to_tensor(scale * random.normal(size=variable.shape).astype(np.float32))
                         for variable in built.trainable_variables])
    return built, optimizer


def moves(built: keras.Model) -> list[np.ndarray]:
    return [after - before for after, before in zip(built.get_weights(), model().get_weights(), strict=True)]


def test_with_equal_factors_it_is_keras_adam():
    peer = model()
    optimizer = keras.optimizers.Adam(0.01)
    random = np.random.default_rng(0)
    for _ in range(3):
        optimizer.apply([keras.ops.convert_to_tensor(random.normal(size=variable.shape).astype(np.float32))
                         for variable in peer.trainable_variables], peer.trainable_variables)
    for ours, theirs in zip(trained()[0].get_weights(), peer.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)  # a move is 0.01


def test_a_factor_scales_how_far_a_variable_moves():
    plain, scaled = moves(trained()[0]), moves(trained(factors=(1.0, 1.0, 10.0, 0.5))[0])
    np.testing.assert_allclose(scaled[0], plain[0], rtol=1e-5)
    np.testing.assert_allclose(scaled[2], 10 * plain[2], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(scaled[3], 0.5 * plain[3], rtol=1e-3, atol=1e-6)


def test_averaged_gradients_move_the_weights_only_every_so_many_steps():
    still, moved = trained(steps=2, accumulate=3)[0], trained(steps=3, accumulate=3)[0]
    assert all((move == 0).all() for move in moves(still))
    assert all((move != 0).any() for move in moves(moved))


def test_large_gradients_are_clipped_by_their_common_norm():
    _, clipped = trained(steps=1, scale=1e4, clip_norm=1.0)
    momenta = np.concatenate([np.ravel(variable.numpy()) for variable in clipped._momentums])
    assert np.linalg.norm(momenta) == pytest.approx(0.1, rel=1e-4)  # 1 - beta_1


def test_the_average_of_the_weights_stays_aside_and_comes_back_bit_for_bit():
    built, optimizer = trained(ema=0.5)
    raw = built.get_weights()
    with averaged_weights(optimizer):
        inside = built.get_weights()
        assert not np.array_equal(inside[0], raw[0])
        np.testing.assert_array_equal(inside[0], optimizer._model_variables_moving_average[0].numpy())
    for before, after in zip(raw, built.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    optimizer.finalize_variable_values(built.trainable_variables)  # Keras calls it at the end of fit
    np.testing.assert_array_equal(built.get_weights()[0], raw[0])


def test_float16_scales_the_loss_and_keeps_the_average():
    built, optimizer = trained(ema=0.5, float16=True)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    raw = built.get_weights()
    with averaged_weights(optimizer):
        assert not any(np.array_equal(inside, before) for inside, before in zip(built.get_weights(), raw, strict=True))
    assert float(optimizer.learning_rate) == pytest.approx(0.01)


def rate(step: int, **config: object) -> float:
    found = learning_rate(TrainingConfig(**{"lr": 0.1, "steps": 100, **config}))  # type: ignore[arg-type]
    return float(found(step)) if callable(found) else found


def test_the_schedules():
    assert rate(70) == 0.1
    assert rate(0, schedule="cosine") == pytest.approx(0.1)
    assert rate(50, schedule="cosine") == pytest.approx(0.05)
    assert rate(100, schedule="cosine") == pytest.approx(0.0)
    assert rate(5, schedule="cosine", warmup_steps=10) == pytest.approx(0.05)
    assert rate(10, schedule="cosine", warmup_steps=10) == pytest.approx(0.1)
    assert rate(55, schedule="cosine", warmup_steps=10) == pytest.approx(0.05)
    assert rate(5, warmup_steps=10) == pytest.approx(0.05)
    assert rate(80, warmup_steps=10) == pytest.approx(0.1)


PEERS = {"adamw": (keras.optimizers.AdamW, {"weight_decay": 0.1}), "sgd": (keras.optimizers.SGD, {}),
         "momentum": (keras.optimizers.SGD, {"momentum": 0.9}), "adagrad": (keras.optimizers.Adagrad, {}),
         "rmsprop": (keras.optimizers.RMSprop, {})}


@pytest.mark.parametrize("name", PEERS)
def test_each_optimiser_is_keras_own_and_a_factor_scales_its_rate(name: str):
    kind, options = PEERS[name]

    def peer(rate: float) -> list[np.ndarray]:
        built, optimizer, random = model(), kind(rate, **options), np.random.default_rng(0)
        if name == "adamw":
            optimizer.exclude_from_weight_decay(var_names=["bias"])
        for _ in range(3):
            optimizer.apply([keras.ops.convert_to_tensor(random.normal(size=variable.shape).astype(np.float32))
                             for variable in built.trainable_variables], built.trainable_variables)
        return built.get_weights()

    config = {"optimizer": name, **options}
    for ours, theirs in zip(trained(**config)[0].get_weights(), peer(0.01), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    ours, theirs = trained(factors=(10.0,) * 4, **config)[0].get_weights(), peer(0.1)
    for left, right in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("float16", [False, True])
def test_swa_is_the_plain_mean_of_the_weights_after_each_of_the_last_steps(float16: bool):
    after = [trained(steps, float16=float16)[0].get_weights() for steps in range(1, 11)]
    _, optimizer = trained(10, float16=float16, swa=0.3)
    built, _ = trained(10, float16=float16, swa=0.3)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    for number, average in enumerate(inner._model_variables_moving_average):
        np.testing.assert_allclose(average, np.mean([weights[number] for weights in after[-3:]], axis=0), rtol=1e-5)
    for ours, plain in zip(built.get_weights(), after[-1], strict=True):
        np.testing.assert_array_equal(ours, plain)  # averaging changes no step


def test_before_its_part_of_the_steps_the_average_of_swa_is_the_weights():
    built, optimizer = trained(7, swa=0.3)
    for average, weight in zip(optimizer._model_variables_moving_average, built.get_weights(), strict=True):
        np.testing.assert_array_equal(average, weight)
