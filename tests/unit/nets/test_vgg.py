"""VGG-16 as TF-Slim names and shapes it."""

from __future__ import annotations

import numpy as np
import pytest

from voc_cls.errors import UsageError
from voc_cls.nets.network import build_network


@pytest.fixture(scope="module")
def gap():
    return build_network("vgg_16", "gap", 20)


def test_the_variables_have_tf_slims_names_and_shapes():
    import tensorflow as tf
    import tf_slim

    ours = {name: tuple(variable.shape) for name, variable in build_network("vgg_16", "fc", 1000).variables().items()}
    with tf.Graph().as_default():
        from tf_slim.nets import vgg

        vgg.vgg_16(tf.compat.v1.placeholder(tf.float32, [1, 224, 224, 3]), num_classes=1000)
        slim = {variable.op.name: tuple(variable.shape) for variable in tf_slim.get_model_variables()}
    assert {name.replace("m_fc8", "fc8"): shape for name, shape in ours.items()} == slim


def test_the_head_has_any_number_of_classes():
    assert build_network("vgg_16", "gap", 3).model.output_shape == (None, 3)


def test_an_unknown_net_or_head_is_named_with_the_known_ones():
    with pytest.raises(UsageError, match="known are vgg_16"):
        build_network("vgg_17", "fc", 20)
    with pytest.raises(UsageError, match="known are fc, gap"):
        build_network("vgg_16", "dense", 20)


def test_the_two_halves_of_a_cut_are_the_whole(gap):
    pictures = np.random.default_rng(0).normal(0, 50, (2, 224, 224, 3)).astype(np.float32)
    whole = np.asarray(gap.model(pictures))
    for scope in ("m_fc8", "conv5"):
        backbone, rest = gap.cut(scope)
        np.testing.assert_allclose(np.asarray(rest(backbone(pictures))), whole, rtol=1e-4, atol=1e-5)


def test_the_gap_head_sees_features_of_one_length(gap):
    from voc_cls.nets.network import GAP_SCALE

    backbone, _ = gap.cut("m_fc8")
    features = np.asarray(backbone(np.random.default_rng(0).normal(0, 50, (2, 224, 224, 3)).astype(np.float32)))
    assert features.shape == (2, 1, 1, 512)
    np.testing.assert_allclose(np.linalg.norm(features, axis=-1), GAP_SCALE, rtol=1e-5)


def test_dropout_is_active_in_training_only():
    network = build_network("vgg_16", "fc", 4)
    _, head = network.cut("m_fc8")
    features = np.ones((1, 1, 1, 4096), np.float32)
    assert np.array_equal(np.asarray(head(features)), np.asarray(head(features)))
    assert not np.array_equal(np.asarray(head(features, training=True)), np.asarray(head(features, training=True)))
