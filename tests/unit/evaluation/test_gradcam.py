"""Grad-CAM, on networks whose weights are made by hand so that the answer is known."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from voc_cls.errors import DataError
from voc_cls.evaluation.gradcam import cut_after_convolutions, grad_cam, heat_maps
from voc_cls.evaluation.report.page import overlay
from voc_cls.nets.network import Network, build_network

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


def test_the_network_is_cut_at_the_input_of_pool5(colours: Network):
    trunk, rest = cut_after_convolutions(colours)
    assert trunk.output_shape == (None, 7, 7, 512)
    assert rest.layers[1].name == "pool5"


def test_it_is_cam_where_the_head_is_one_layer_on_averages():
    """Selvaraju et al., section 3.1: a generalisation of CAM, the maps weighted by the classifier's weights."""
    random = np.random.default_rng(0)
    features = keras.Input((5, 6, 7))
    dense = keras.layers.Dense(3)
    rest = keras.Model(features, dense(keras.layers.GlobalAveragePooling2D()(features)))
    values = random.normal(size=(4, 5, 6, 7)).astype(np.float32)
    columns = [2, 0, 1, 2]
    cam = np.maximum(np.einsum("nhwc,cn->nhw", values, dense.get_weights()[0][:, columns]), 0)
    expected = cam / cam.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(grad_cam(rest, values, columns), expected, atol=1e-5)


def test_of_class_attention_it_is_the_map_of_the_class():
    keras.utils.set_random_seed(0)
    network = build_network("alexnet_v2", "csra", 3, image_size=131)
    kernel, _ = network.model.get_layer("m_fc8").weights
    kernel.assign(np.abs(kernel))
    normed, classifier = cut_after_convolutions(network)
    grids = np.asarray(normed(np.random.default_rng(0).normal(0, 50, (2, 131, 131, 3)).astype(np.float32)))
    maps = grids @ np.asarray(kernel)[0, 0]
    expected = np.stack([maps[0, ..., 2], maps[1, ..., 0]])
    np.testing.assert_allclose(grad_cam(classifier, grids, [2, 0]), expected / expected.max(axis=(1, 2), keepdims=True),
                               rtol=1e-3, atol=1e-4)


def test_the_overlay_darkens_what_is_cold_and_lights_what_is_hot():
    picture = np.full((60, 90, 3), 128, np.uint8)
    heat = np.zeros((3, 3), np.float32)
    heat[1, 1] = 1
    drawn = overlay(picture, heat)
    assert drawn.shape == picture.shape
    assert drawn.dtype == np.uint8
    assert drawn[5, 5].max() < 128 < drawn[30, 45].max()


@pytest.mark.parametrize(("net", "size", "grid"), [("alexnet_v2", 67, (3, 3)), ("resnet_v1_50", 64, (2, 2)),
                                                   ("resnet_v2_50", 64, (2, 2)), ("inception_v1", 64, (2, 2)),
                                                   ("mobilenet_v1_0.25_128", 65, (3, 3))])
def test_every_family_has_a_last_grid_to_look_at(net: str, size: int, grid: tuple[int, int], picture: Path):
    network = build_network(net, "gap+max+lower" if net == "alexnet_v2" else "gap", 2, image_size=size)
    trunk, rest = cut_after_convolutions(network)
    given = np.random.default_rng(0).normal(0, 1, (2, size, size, 3)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(rest(trunk(given))), np.asarray(network.model(given)), rtol=1e-3, atol=1e-4)
    maps = heat_maps(network, [picture], [1])
    assert maps.shape == (1, *grid)
    assert 0 <= maps.min() <= maps.max() <= 1
