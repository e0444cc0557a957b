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
    kinds: list[Callable[..., Mixed]] = []
    if augmentation.mixup:
        mixup = _in_tensorflow(keras.layers.MixUp(augmentation.mixup, seed=0))
        kinds.append(lambda *batch: _mixed_up(mixup, *batch))
    if augmentation.cutmix:  # a range of alpha, of one value
        cutmix = _in_tensorflow(keras.layers.CutMix((augmentation.cutmix, augmentation.cutmix), seed=0))
        kinds.append(lambda *batch: _cut_and_mixed(cutmix, *batch))

    def mix(images: tf.Tensor, targets: tf.Tensor, draws: tf.Tensor) -> Mixed:
        seeds = DrawSeeds(draws[0])
        kind = tf.random.stateless_uniform([], seeds.next(), 0, len(kinds), tf.int32)
        pixels, labels = tf.switch_case(kind, [lambda mix=mix: mix(images, targets, seeds) for mix in kinds])
        return tf.ensure_shape(pixels, images.shape), tf.ensure_shape(labels, targets.shape)

    return mix


def mixed_targets(targets: tf.Tensor, partner: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """float32 [B, classes]: weight · targets + (1 - weight) · those of `partner` (int [B]), ignored entries kept."""
    others, share = tf.gather(targets, partner), weight[:, None]
    ignored = (targets == IGNORED) & (share > 0) | (others == IGNORED) & (share < 1)
    mixed = share * tf.maximum(targets, 0.0) + (1 - share) * tf.maximum(others, 0.0)  # ignored, but with a share of 0
    return tf.where(ignored, IGNORED, mixed)


def _mixed_up(layer: Any, images: tf.Tensor, targets: tf.Tensor, seeds: DrawSeeds) -> Mixed:
    drawn = layer.get_random_transformation(images, seed=seeds)
    return (layer.transform_images(images, drawn),
            mixed_targets(targets, drawn["permutation_order"], drawn["mix_weight"]))


def _cut_and_mixed(layer: Any, images: tf.Tensor, targets: tf.Tensor, seeds: DrawSeeds) -> Mixed:
    drawn = layer.get_random_transformation(images, seed=seeds)
    pasted = tf.reduce_mean(tf.cast(drawn["batch_masks"][..., 0], tf.float32), [1, 2])
    return layer.transform_images(images, drawn), mixed_targets(targets, drawn["permutation_order"], 1 - pasted)


def _in_tensorflow(layer: Any) -> Any:
    """tf.data runs on TensorFlow whatever Keras' backend is; Keras switches only in a layer's own call."""
    layer.backend.set_backend("tensorflow")
    return layer
