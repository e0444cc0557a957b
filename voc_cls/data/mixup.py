"""mixup and CutMix: pictures of a batch mixed with each other, and their labels with them.

Pixels and weights are Keras' layers'; the labels are ours, because an entry that is ignored has to stay so.
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


class Drawn(keras.random.SeedGenerator):  # type: ignore[misc]  # Keras ships no types
    """The seeds that follow from a draw, where Keras' own come from a variable that every call changes."""

    def __init__(self, draw: tf.Tensor) -> None:
        self.draw, self.calls = draw, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """int64 [2], another one each time, in order."""
        del ordered  # Keras' own can also draw out of order
        self.calls += 1
        return tf.stack([self.draw, tf.constant(self.calls, tf.int64)])


def mixer(augmentation: Augmentation) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Mixed]:
    """The function (images float32 [B, H, W, 3], targets float32 [B, classes], draws int64 [B]) → images and targets.

    Pure, for use inside tf.data: everything random follows from the first draw. With mixup and CutMix both, each batch
    gets one of them, as likely as the other. Targets become weights between 0 and 1; an entry that is ignored in
    either picture, where that picture has a part at all, is ignored.
    """
    kinds: list[Callable[..., Mixed]] = []
    if augmentation.mixup:
        mixup = _in_tensorflow(keras.layers.MixUp(augmentation.mixup, seed=0))
        kinds.append(lambda *batch: _mixed_up(mixup, *batch))
    if augmentation.cutmix:  # a range of alpha, of one value
        cutmix = _in_tensorflow(keras.layers.CutMix((augmentation.cutmix, augmentation.cutmix), seed=0))
        kinds.append(lambda *batch: _cut_and_mixed(cutmix, *batch))

    def mix(images: tf.Tensor, targets: tf.Tensor, draws: tf.Tensor) -> Mixed:
        seeds = Drawn(draws[0])
        kind = tf.random.stateless_uniform([], seeds.next(), 0, len(kinds), tf.int32)
        pixels, labels = tf.switch_case(kind, [lambda one=one: one(images, targets, seeds) for one in kinds])
        return tf.ensure_shape(pixels, images.shape), tf.ensure_shape(labels, targets.shape)

    return mix


def mixed_targets(targets: tf.Tensor, partner: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """targets float32 [B, classes], each mixed with those of its `partner` (int [B]), of which 1 - weight is taken."""
    others, share = tf.gather(targets, partner), weight[:, None]
    ignored = (targets == IGNORED) & (share > 0) | (others == IGNORED) & (share < 1)
    mixed = share * tf.maximum(targets, 0.0) + (1 - share) * tf.maximum(others, 0.0)  # an ignored one without a part
    return tf.where(ignored, IGNORED, mixed)


def _mixed_up(layer: Any, images: tf.Tensor, targets: tf.Tensor, seeds: Drawn) -> Mixed:
    drawn = layer.get_random_transformation(images, seed=seeds)
    return (layer.transform_images(images, drawn),
            mixed_targets(targets, drawn["permutation_order"], drawn["mix_weight"]))


def _cut_and_mixed(layer: Any, images: tf.Tensor, targets: tf.Tensor, seeds: Drawn) -> Mixed:
    drawn = layer.get_random_transformation(images, seed=seeds)
    pasted = tf.reduce_mean(tf.cast(drawn["batch_masks"][..., 0], tf.float32), [1, 2])
    return layer.transform_images(images, drawn), mixed_targets(targets, drawn["permutation_order"], 1 - pasted)


def _in_tensorflow(layer: Any) -> Any:
    """tf.data runs on TensorFlow whatever Keras' backend is; Keras sees to it only in a layer's own call."""
    layer.backend.set_backend("tensorflow")
    return layer
