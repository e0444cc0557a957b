"""Optimisers with a learning-rate factor for every variable, schedules, and averaged weights beside the raw ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from voc_cls.training.config import ResolvedTraining


class RateFactors(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Goes before an optimiser of Keras': a factor of the learning rate for each variable, in the order of `build`.

    The factor scales the rate: a factor on the gradient would cancel out in Adam's quotient. `kernel_decay`: share of a
    kernel that every step subtracts, times its rate (Loshchilov & Hutter 2019); Keras' own would ignore the factors.
    `average_from`: where given, Keras' average of the weights is their plain mean over the steps from that one on.
    """

    def __init__(self, learning_rate: Any, factors: Sequence[float], kernel_decay: float = 0.0,
                 average_from: int | None = None, **options: Any) -> None:
        super().__init__(learning_rate, **options)
        self.average_from = average_from
        self.factors, self.kernel_decay, self.kernels = tuple(factors), kernel_decay, ()

    @property
    def ema_momentum(self) -> Any:
        """What the average keeps of itself in a step; a mean's n-th value has 1/n of the weight, so it needs no state
        but the count of steps, which checkpoints have. Before `average_from` the average is the weights."""
        if self.average_from is None:
            return self._ema_momentum
        before = keras.ops.cast(keras.ops.maximum(self.iterations - self.average_from, 0), "float32")
        return before / (before + 1)

    @ema_momentum.setter
    def ema_momentum(self, value: float) -> None:
        self._ema_momentum = value

    def build(self, variables: Any) -> None:
        super().build(variables)
        self.kernels = tuple(variable.path.endswith("kernel") for variable in variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        rate = learning_rate * self.factors[index]
        if self.kernel_decay and self.kernels[index]:
            self.assign_sub(variable, variable * keras.ops.cast(rate * self.kernel_decay, variable.dtype))
        super().update_step(gradient, variable, rate)

    def _clip_gradients(self, grads: Any) -> Any:
        """Nothing where the replicas of a tf.distribute.Strategy have a part of the gradient each, which Keras 3.15
        would clip: what they add up to is clipped below."""
        return grads if _replicas() > 1 else super()._clip_gradients(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        reduced = super()._all_reduce_sum_gradients(grads_and_vars)
        if _replicas() == 1:
            return reduced
        clipped = super()._clip_gradients([gradient for gradient, _ in reduced])
        return [(gradient, variable) for gradient, (_, variable) in zip(clipped, reduced, strict=True)]

    def finalize_variable_values(self, var_list: Any) -> None:
        """Nothing: at the end of each `fit` Keras would put the averages in place of the weights, for good."""


class FusedAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Keras' Adam by one kernel of TensorFlow's, which passes over all weights once instead of ten times."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if keras.backend.backend() != "tensorflow" or _replicas() > 1:
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf  # here, because the JAX backend needs none

        # Keras names no public access to the two moments that `build` has made
        index, step = self._get_variable_index(variable), tf.cast(self.iterations + 1, variable.dtype)
        momentum, velocity = self._momentums[index].value, self._velocities[index].value
        beta_1, beta_2 = (tf.constant(beta, variable.dtype) for beta in (self.beta_1, self.beta_2))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=momentum.handle, v=velocity.handle, beta1_power=beta_1 ** step,
            beta2_power=beta_2 ** step, lr=tf.cast(learning_rate, variable.dtype), beta1=beta_1, beta2=beta_2,
            epsilon=tf.constant(self.epsilon, variable.dtype), grad=tf.cast(gradient, variable.dtype))


OPTIMIZERS = {"adam": FusedAdam, "adamw": FusedAdam, "sgd": keras.optimizers.SGD, "momentum": keras.optimizers.SGD,
              "adagrad": keras.optimizers.Adagrad, "rmsprop": keras.optimizers.RMSprop}
OPTIMIZERS = {name: type(kind.__name__, (RateFactors, kind), {}) for name, kind in OPTIMIZERS.items()}


def _replicas() -> int:
    if keras.backend.backend() != "tensorflow":
        return 1  # JAX sees the gradient of the whole batch
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def build_optimizer(config: ResolvedTraining, factors: Sequence[float], float16: bool) -> keras.optimizers.Optimizer:
    """The optimiser of `config`, its schedule, clipping, accumulation and averaging; for float16 with loss scaling."""
    options: dict[str, Any] = {"use_ema": True, "ema_momentum": config.ema} if config.ema is not None else {}
    if config.swa is not None:
        options = {"use_ema": True, "average_from": min(round(config.steps * (1 - config.swa)), config.steps - 1)}
    options |= {"momentum": config.momentum} if config.momentum is not None else {}
    optimizer = OPTIMIZERS[config.optimizer](
        learning_rate(config), factors, config.weight_decay or 0.0, global_clipnorm=config.clip_norm,
        gradient_accumulation_steps=config.accumulate if config.accumulate > 1 else None, **options)
    return keras.optimizers.LossScaleOptimizer(optimizer) if float16 else optimizer


def learning_rate(config: ResolvedTraining) -> Any:
    """The rate of every step: a number where a callback may change it, else a schedule over all steps."""
    rate, warmup = config.lr, config.warmup_steps
    if config.schedule != "cosine" and not warmup:
        return rate
    start = {"warmup_target": rate, "warmup_steps": warmup} if warmup else {}
    # alpha is the share of the rate that is left at the end: 1 makes the cosine a constant
    return keras.optimizers.schedules.CosineDecay(0.0 if warmup else rate, max(1, config.steps - warmup),
                                                  alpha=0.0 if config.schedule == "cosine" else 1.0, **start)


@contextmanager
def averaged_weights(optimizer: keras.optimizers.Optimizer, kind: str = "ema") -> Iterator[None]:
    """Inside, the model has the averages of an optimiser with `ema` or `swa` as its weights; as `kind` raw its own.
    Keras' SwapEMAWeights adds and subtracts them, which rounds: afterwards training would continue from weights that
    are slightly off."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    # no public access: Keras' own SwapEMAWeights reads the same two lists
    pairs = [] if kind == "raw" else list(zip(inner._trainable_variables, inner._model_variables_moving_average,
                                              strict=True))
    raw = [keras.ops.convert_to_numpy(variable) for variable, _ in pairs]
    try:
        for variable, average in pairs:
            variable.assign(keras.ops.convert_to_numpy(average))
        yield
    finally:
        for (variable, _), value in zip(pairs, raw, strict=True):
            variable.assign(value)
