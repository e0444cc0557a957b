"""What every family of networks promises: scopes, cuts, heads, sizes, number formats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import keras
import numpy as np
import pytest

from voc_cls.errors import UsageError
from voc_cls.nets.network import GAP_SCALE, Network, build, build_network, without_values
from voc_cls.nets.registry import NETS, net_spec

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

SIZES = {"vgg_16": 32, "alexnet_v2": 67, "resnet_v1_50": 64, "resnet_v2_50": 64, "inception_v1": 32,
         "inception_resnet_v2": 75, "mobilenet_v1_0.25_128": 32, "nasnet_mobile": 32}


@cache
def small(net: str, head: str = "gap", precision: str = "float32") -> Network:
    """The network for small pictures, with two units per block where it is a ResNet."""
    keras.utils.set_random_seed(0)
    spec = net_spec(net, SIZES[net])
    if spec.family.startswith("resnet"):
        spec = replace(spec, blocks=tuple((depth // 8, 2) for depth, _ in spec.blocks))
    elif spec.family.startswith("nasnet"):
        spec = replace(spec, blocks=((4, 1), (8, 1), (16, 1), (32, 1)))
    return build(spec, head, 3, precision)


@pytest.fixture(scope="module", autouse=True)
def networks_are_forgotten() -> Iterator[None]:
    yield
    small.cache_clear()


def pictures(network: Network, number: int = 2) -> np.ndarray:
    size = network.spec.preprocessing.size
    return np.random.default_rng(0).normal(0, 1, (number, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize("net", ["vgg_16", "alexnet_v2", "resnet_v1_50", "resnet_v2_50", "inception_v1",
                                 "mobilenet_v1_0.25_128"])
def test_the_two_halves_of_every_cut_are_the_whole(net: str):
    network = small(net)
    given = pictures(network)
    whole = np.asarray(network.model(given))
    assert whole.shape == (2, 3)
    for scope in (network.scopes[1], network.scopes[len(network.scopes) // 2], network.scopes[-1]):
        backbone, rest = network.cut(scope)
        np.testing.assert_allclose(np.asarray(rest(backbone(given))), whole, rtol=1e-4, atol=1e-5)


def test_a_cell_of_nasnet_that_two_tensors_enter_is_no_place_to_cut():
    network = small("nasnet_mobile")
    assert [scope for scope, entry in network.entries.items() if entry is not None] == [
        "conv0", "conv0_bn", "cell_stem_0", "m_logits"]
    given = pictures(network)
    backbone, rest = network.cut("m_logits")
    np.testing.assert_allclose(np.asarray(rest(backbone(given))), np.asarray(network.model(given)), atol=1e-5)
    assert {name.split("/")[0] for name in network.variables()} == set(network.scopes)
    assert network.is_head("final_layer/FC/weights")


@pytest.mark.parametrize(("name", "message"), [
    ("mobilenet_v1_0.0_224", "the width 0.0 of MobileNet-v1 must be above 0 and at most 4"),
    ("mobilenet_v1_4.5_224", "the width 4.5 of MobileNet-v1 must be above 0 and at most 4"),
    ("mobilenet_v1_0.5_16", "`image_size` 16: must be from 32 to 2048 for mobilenet_v1_0.5_16"),
    ("mobilenet_v1", "no such network; known are .*mobilenet_v1_WIDTH_SIZE with other numbers"),
])
def test_a_mobilenet_that_cannot_be_is_refused(name: str, message: str):
    with pytest.raises(UsageError, match=message):
        net_spec(name)


def test_widths_may_be_written_as_tf_slims_readme_writes_them():
    assert net_spec("mobilenet_v1_0.50_160") == NETS["mobilenet_v1_0.5_160"]


def test_an_unknown_net_or_head_is_named_with_the_known_ones():
    with pytest.raises(UsageError, match="`net` vgg_17: no such network; known are vgg_16"):
        build_network("vgg_17", "fc", 20)
    with pytest.raises(UsageError, match="`head` dense: no such head; known are fc, gap"):
        build_network("vgg_16", "dense", 20)
    with pytest.raises(UsageError, match="`classes` 0: a network needs at least one"):
        build_network("vgg_16", "gap", 0)


def test_the_gap_head_sees_features_of_one_length():
    network = small("vgg_16")
    backbone, _ = network.cut("m_fc8")
    features = np.asarray(backbone(pictures(network)))
    assert features.shape == (2, 1, 1, 512)
    np.testing.assert_allclose(np.linalg.norm(features, axis=-1), GAP_SCALE, rtol=1e-5)


def test_dropout_is_active_in_training_only():
    network = small("inception_v1", "fc")
    _, head = network.cut("m_logits")
    features = np.ones((1, 1, 1, 1024), np.float32)
    assert np.array_equal(np.asarray(head(features)), np.asarray(head(features)))
    assert not np.array_equal(np.asarray(head(features, training=True)), np.asarray(head(features, training=True)))


@pytest.mark.parametrize(("net", "scopes"), [
    ("vgg_16", "conv1 conv2 conv3 conv4 conv5 m_fc8"),
    ("alexnet_v2", "conv1 conv2 conv3 conv4 conv5 m_fc8"),
    ("resnet_v1_50", "conv1 block1 block2 block3 block4 m_logits"),
    ("resnet_v2_50", "conv1 block1 block2 block3 block4 postnorm m_logits"),
    ("inception_v1", "Conv2d_1a_7x7 Conv2d_2b_1x1 Conv2d_2c_3x3 Mixed_3b Mixed_3c Mixed_4b Mixed_4c Mixed_4d Mixed_4e "
                     "Mixed_4f Mixed_5b Mixed_5c m_logits"),
    ("mobilenet_v1_0.25_128", " ".join(
        ["Conv2d_0", *(f"Conv2d_{n}_{part}wise" for n in range(1, 14) for part in ("depth", "point")), "m_logits"])),
    ("nasnet_mobile", "conv0 conv0_bn cell_stem_0 cell_stem_1 cell_0 reduction_cell_0 cell_1 reduction_cell_1 cell_2 "
                      "m_logits"),
])
def test_scopes_are_tf_slims_in_order(net: str, scopes: str):
    assert " ".join(small(net).scopes) == scopes


@pytest.mark.parametrize("net", ["resnet_v2_50", "inception_v1"])
def test_a_head_on_the_grids_mean_takes_pictures_of_any_size(net: str):
    network = build_network(net, "fc", 3, image_size=SIZES[net])
    assert network.model.output_shape == (None, 3)
    assert network.entries["m_logits"].shape[1:3] == (1, 1)


@pytest.mark.parametrize("net", ["vgg_16", "vgg_19", "alexnet_v2"])
def test_fully_connected_layers_bind_a_network_to_its_size(net: str):
    with pytest.raises(UsageError, match=r"`image_size` 256: the layers of `head` fc are made for 224; choose "):
        build_network(net, "fc", 3, image_size=256)


@pytest.mark.parametrize(("net", "smallest"), [("alexnet_v2", 67), ("inception_v3", 75), ("resnet_v2_101", 32)])
def test_pictures_that_leave_no_grid_are_refused(net: str, smallest: int):
    with pytest.raises(UsageError, match=rf"`image_size` {smallest - 1}: must be from {smallest} to 2048 for {net}"):
        net_spec(net, smallest - 1)


@pytest.mark.parametrize("net", ["vgg_16", "alexnet_v2", "resnet_v1_50", "resnet_v2_50"])
def test_the_maximum_of_the_grid_stands_beside_its_mean(net: str):
    mean, both = small(net), small(net, "gap+max")
    head = mean.spec.head
    assert both.entries[head].shape[-1] == 2 * mean.entries[head].shape[-1]
    assert mean.grid.shape[-1] == mean.entries[head].shape[-1]


def test_the_maximum_of_a_lower_grid_stands_behind_both_each_of_the_same_length():
    network = small("resnet_v1_50", "gap+max+lower")
    assert network.grids[1] is network.entries["block4"]
    values = keras.Model(network.model.input, [*network.grids, network.entries["m_logits"]])
    grid, lower, entering = (np.asarray(value) for value in values(pictures(network)))
    parts = [grid.mean(axis=(1, 2)), grid.max(axis=(1, 2)), lower.max(axis=(1, 2))]
    expected = np.concatenate([10 * part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], axis=1)
    np.testing.assert_allclose(entering[:, 0, 0], expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match=r"`head` gap[+]max[+]lower: two grids enter .* of nasnet_mobile, not one"):
        build_network("nasnet_mobile", "gap+max+lower", 3)


def test_class_attention_adds_the_maximum_of_a_classs_scores_to_their_mean():
    network = small("resnet_v1_50", "csra")
    kernel, bias = network.model.get_layer("m_logits").get_weights()
    values = keras.Model(network.model.input, [network.grid, network.model.output])
    grid, logits = (np.asarray(value) for value in values(pictures(network)))
    lengths = np.linalg.norm(grid.mean(axis=(1, 2)), axis=1)[:, None, None, None]
    maps = 10 * grid / lengths @ kernel[0, 0] + bias
    np.testing.assert_allclose(logits, maps.mean(axis=(1, 2)) + 0.1 * maps.max(axis=(1, 2)), rtol=1e-4, atol=1e-4)
    at_any_size = np.asarray(network.at_any_size()(pictures(network)))
    np.testing.assert_allclose(at_any_size, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("net", ["resnet_v1_50", "resnet_v2_50"])
def test_in_bfloat16_the_logits_are_float32_and_close_to_those_of_float32(net: str):
    exact, rounded = small.__wrapped__(net), small.__wrapped__(net, precision="mixed_bfloat16")  # they are changed here
    for name, variable in exact.variables().items():
        if name.endswith("beta"):  # ReLUs that cut half of all values make rounding errors larger layer by layer
            variable.assign(np.ones(variable.shape))
    rounded.model.set_weights(exact.model.get_weights())
    given = pictures(exact)
    for training in (False, True):
        first, second = (np.asarray(network.model(given, training=training)) for network in (exact, rounded))
        assert second.dtype == np.float32
        assert 0 < np.abs(second - first).max() < 0.1 * np.abs(first).max()
    assert rounded.grid.dtype == "bfloat16"
    assert {str(variable.dtype) for variable in rounded.variables().values()} == {"float32"}


def test_a_heads_name_is_told_from_the_backbones():
    network = small("inception_v1")
    assert network.is_head("InceptionV1/m_logits/weights")
    assert network.is_head("InceptionV1/Logits/Conv2d_0c_1x1/biases")
    assert not network.is_head("InceptionV1/Mixed_5c/Branch_0/Conv2d_0a_1x1/weights")


def test_every_row_of_the_registry_says_where_its_numbers_come_from():
    for name, spec in NETS.items():
        assert spec.name == name
        assert spec.published is None or 40 < spec.published.top1 < 83
    resnet_v2 = NETS["resnet_v2_50"].preprocessing
    assert (resnet_v2.size, resnet_v2.mean, resnet_v2.std) == (299, (127.5,) * 3, (127.5,) * 3)


def test_a_network_without_values_gets_none_with_the_next_one():
    forgotten = without_values(lambda: build_network("alexnet_v2", "gap", 2).model.variables)
    assert forgotten[0].shape == (11, 11, 3, 64)
    small("alexnet_v2")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert all(variable._value is None for variable in forgotten)  # `value` would draw one
