"""mixup and CutMix: images of a batch mixed with each other, and their labels too.

Keras' layers mix the pixels and draw the weights; the labels are mixed here, because ignored entries must stay ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from voc_cls.data.dataset import IGNORED

if TYPE_CHECKING:
    from voc_cls.data.augmentation import Augmentation

Mixed = tuple[tf.Tensor, tf.Tensor]


class DrawSeeds(keras.random.SeedGenerator):  # type: ignore[misc]  # Keras ships no types
    """Seeds derived from a draw; Keras' own come from a variable that every call changes."""

    def __init__(self, draw: tf.Tensor) -> None:
        self.draw, self.calls = draw, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """int64 [2], a new one for each call."""
        del ordered  # Keras' own can also draw out of order
        self.calls += 1
        return tf.stack([self.draw, tf.constant(self.calls, tf.int64)])


def mixer(augmentation: Augmentation) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Mixed]:
    """A function (images float32 [B, H, W, 3], targets float32 [B, classes], draws int64 [B]) → images, targets.

    Pure, for use inside tf.data: everything random follows from the first draw. With both mixup and CutMix, each batch
    gets one of them with equal probability. Targets become weights between 0 and 1; an entry that is ignored in either
    image is ignored, unless that image's share is 0.
    """
    layers = [keras.layers.MixUp(augmentation.mixup, seed=0)] if augmentation.mixup else []
    if augmentation.cutmix:  # a range of alpha, of one value
        layers.append(keras.layers.CutMix((augmentation.cutmix, augmentation.cutmix), seed=0))
    for layer in layers:  # tf.data runs on TensorFlow whatever Keras' backend is; a layer switches only in its own call
        layer.backend.set_backend("tensorflow")

    def mix(images: tf.Tensor, targets: tf.Tensor, draws: tf.Tensor) -> Mixed:
        seeds = DrawSeeds(draws[0])
        kind = tf.random.stateless_uniform([], seeds.next(), 0, len(layers), tf.int32)
        pixels, labels = tf.switch_case(kind, [lambda layer=layer: _mixed(layer, images, targets, seeds)
                                               for layer in layers])
        return tf.ensure_shape(pixels, images.shape), tf.ensure_shape(labels, targets.shape)

    return mix


def mixed_targets(targets: tf.Tensor, partner: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """float32 [B, classes]: weight · targets + (1 - weight) · those of `partner` (int [B]), ignored entries kept."""
    others, share = tf.gather(targets, partner), weight[:, None]
    ignored = (targets == IGNORED) & (share > 0) | (others == IGNORED) & (share < 1)
    mixed = share * tf.maximum(targets, 0.0) + (1 - share) * tf.maximum(others, 0.0)  # ignored, but with a share of 0
    return tf.where(ignored, IGNORED, mixed)


def _mixed(layer: Any, images: tf.Tensor, targets: tf.Tensor, seeds: DrawSeeds) -> Mixed:
    drawn = layer.get_random_transformation(images, seed=seeds)
    if "batch_masks" in drawn:  # CutMix
        weight = 1 - tf.reduce_mean(tf.cast(drawn["batch_masks"][..., 0], tf.float32), [1, 2])
    else:
        weight = drawn["mix_weight"]
    return layer.transform_images(images, drawn), mixed_targets(targets, drawn["permutation_order"], weight)
