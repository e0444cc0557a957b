"""Grad-CAM, on networks whose weights are made by hand so that the answer is known, and beside its definition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from voc_cls.errors import DataError
from voc_cls.evaluation.gradcam import heat_maps
from voc_cls.evaluation.report.page import overlay
from voc_cls.nets.explained import explained
from voc_cls.nets.network import Network, build, build_network
from voc_cls.nets.registry import net_spec

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out


@pytest.fixture(scope="module")
def colours() -> Network:
    """VGG-16 whose convolutions pass red and green on, each in a channel; its classes are red and green."""
    network = build_network("vgg_16", "gap", 2, image_size=112)
    for name, variable in network.variables().items():
        values = np.zeros(variable.shape, np.float32)
        if name.endswith("m_fc8/weights"):
            values[0, 0, 0] = 1, 0
            values[0, 0, 1] = 0, 1
        elif name.endswith("weights"):
            values[1, 1, 0, 0] = values[1, 1, 1, 1] = 1
        variable.assign(values)
    return network


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Red at the top left, green at the bottom right, black between."""
    pixels = np.zeros((448, 448, 3), np.uint8)
    pixels[:128, :128, 0] = pixels[320:, 320:, 1] = 255
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_each_class_glows_where_it_is_and_nowhere_else(colours: Network, picture: Path):
    red, green = heat_maps(colours, [picture, picture], [0, 1])
    assert red.shape == (7, 7)
    assert red.dtype == np.float32
    corners = {"top left": np.s_[:2, :2], "bottom right": np.s_[5:, 5:]}
    for heat, own, other in ((red, "top left", "bottom right"), (green, "bottom right", "top left")):
        assert heat[corners[own]].min() > 0.99
        assert heat[corners[other]].max() == 0
        assert heat.sum() == pytest.approx(heat[corners[own]].sum())


def test_a_class_without_any_evidence_has_an_empty_map(colours: Network, tmp_path: Path):
    Image.new("RGB", (50, 40)).save(tmp_path / "black.png")
    assert not heat_maps(colours, [tmp_path / "black.png"], [0]).any()


def test_more_pictures_than_a_batch_keep_their_order(colours: Network, picture: Path):
    columns = [0, 1, 1, 0, 0, 1, 0, 1, 1]
    maps = heat_maps(colours, [picture] * len(columns), columns)
    assert [int(heat[6, 6] > heat[0, 0]) for heat in maps] == columns


def test_no_pictures_have_no_maps(colours: Network):
    assert heat_maps(colours, [], []).shape == (0, 7, 7)


def test_a_broken_picture_is_named(colours: Network, tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff half a picture")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        heat_maps(colours, [tmp_path / "broken.jpg"], [0])


def by_gradients(network: Network, images: Any) -> np.ndarray:
    """As the paper defines it, by a backward pass: float32 [N, classes, h, w]."""
    import tensorflow as tf

    number, classes = len(images), network.classes
    grids = keras.Model(network.model.input, network.grids)(images, training=False)
    repeated = keras.tree.map_structure(lambda grid: tf.repeat(grid, classes, axis=0), grids)
    grid = keras.tree.flatten(repeated)[0]
    with tf.GradientTape() as tape:
        tape.watch(grid)
        logits = keras.Model(network.grids, network.model.output)(repeated, training=False)
        total = tf.reduce_sum(logits * tf.tile(tf.eye(classes), (number, 1)))
    weights = tf.reduce_mean(tape.gradient(total, grid), axis=(1, 2), keepdims=True)
    maps = tf.nn.relu(tf.reduce_sum(weights * grid, axis=-1)).numpy().reshape(number, classes, *grid.shape[1:3])
    return maps / np.maximum(maps.max(axis=(2, 3), keepdims=True), 1e-38)


HEADS: list[tuple[str, str, int, dict[str, Any]]] = [  # every head, each kind of fc, every family
    *(("vgg_16", head, 64, {"blocks": ((4, 1), (8, 1), (8, 1))})
      for head in ("gap", "gap+max", "gap+max+lower", "csra", "flatten")),
    ("vgg_16", "fc", 32, {"blocks": ((4, 1), (8, 1))}), ("alexnet_v2", "gap+max+lower", 131, {}),
    ("resnet_v1_50", "fc", 48, {"blocks": ((8, 2), (8, 2))}), ("resnet_v2_50", "gap+max", 48, {"blocks": ((8, 2),)}),
    ("mobilenet_v1_0.25_128", "csra", 65, {}), ("inception_v1", "flatten", 64, {}),
    ("inception_v2", "gap", 64, {}), ("inception_v3", "gap+max", 107, {}), ("inception_v4", "fc", 107, {}),
    ("inception_resnet_v2", "csra", 107, {"blocks": ((1, 1), (1, 1), (1, 1))}),
    *(("nasnet_mobile", head, 64, {"blocks": ((8, 1), (12, 1), (24, 1), (48, 1))})
      for head in ("gap+max", "fc"))]


@pytest.mark.parametrize(("net", "head", "size", "fields"), HEADS)
def test_without_a_backward_pass_it_is_what_its_definition_says(net: str, head: str, size: int, fields: dict[str, Any]):
    keras.utils.set_random_seed(3)
    network = build(replace(net_spec(net, size), **fields), head, 6)
    random = np.random.default_rng(0)
    for variable in network.model.weights:
        if variable.path.endswith(("moving_mean", "beta", "bias")):
            variable.assign(random.normal(0, 0.1, variable.shape))
    images = random.normal(0, 1, (3, size, size, 3)).astype(np.float32)
    logits, maps, embedding = map(np.asarray, explained(network)(images, training=False))
    np.testing.assert_array_equal(logits, np.asarray(network.model(images, training=False)))
    expected = by_gradients(network, images)
    assert maps.shape == expected.shape
    assert maps.shape[2] > 1
    assert expected.any(axis=(2, 3)).mean() >= 0.25
    np.testing.assert_allclose(maps, expected, atol=1e-3)
    features = np.asarray(keras.Model(network.model.input, network.entries[network.spec.head])(images, training=False))
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)
    mean = features.mean(axis=(1, 2))
    np.testing.assert_allclose(embedding, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)


def test_calibrated_it_is_the_same():
    network = build(replace(net_spec("vgg_16", 32), blocks=((4, 1), (8, 1))), "gap+max", 3)
    images = np.random.default_rng(0).normal(0, 1, (2, 32, 32, 3)).astype(np.float32)
    maps = [np.asarray(explained(one)(images, training=False)[1]) for one in (network, network.rescaled(0.4, -1.5))]
    np.testing.assert_allclose(*maps, atol=1e-5)


def test_the_overlay_darkens_what_is_cold_and_lights_what_is_hot():
    picture = np.full((60, 90, 3), 128, np.uint8)
    heat = np.zeros((3, 3), np.float32)
    heat[1, 1] = 1
    drawn = overlay(picture, heat)
    assert drawn.shape == picture.shape
    assert drawn.dtype == np.uint8
    assert drawn[5, 5].max() < 128 < drawn[30, 45].max()
