"""A network that ends behind one of its scopes or pools, and the head that flattens what is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from voc_cls.errors import UsageError
from voc_cls.nets.network import Network, build, build_network
from voc_cls.nets.registry import net_spec
from voc_cls.weights.diff import Status, compare
from voc_cls.weights.formats import NPZ
from voc_cls.weights.load import load_weights_file, restore

pytestmark = pytest.mark.slow  # takes seconds; `make test-fast` leaves it out


def narrow(net: str, cut: str | None, head: str = "fc", size: int = 32) -> Network:
    """The network with few filters, the same weights for every cut."""
    keras.utils.set_random_seed(0)
    spec = net_spec(net, size, cut=cut)
    units = {"vgg": 1, "resnet_v1": 2, "resnet_v2": 2}.get(spec.family, 0)
    return build(replace(spec, blocks=tuple((depth // 16, units) for depth, _ in spec.blocks)), head, 3)


@pytest.mark.parametrize(("net", "cut", "shape", "scopes"), [
    ("vgg_16", "pool3", (4, 4, 16), "conv1 conv2 conv3 m_fc8"),
    ("vgg_16", "pool2", (8, 8, 8), "conv1 conv2 m_fc8"),
    ("vgg_16", "conv3", (8, 8, 16), "conv1 conv2 conv3 m_fc8"),
    ("vgg_16", "vgg_16/pool1", (16, 16, 4), "conv1 m_fc8"),
    ("vgg_16", "pool5", (1, 1, 32), "conv1 conv2 conv3 conv4 conv5 m_fc8"),
    ("resnet_v1_50", "block2", (2, 2, 32), "conv1 block1 block2 m_logits"),
    ("resnet_v2_50", "resnet_v2_50/block4", (1, 1, 128), "conv1 block1 block2 block3 block4 m_logits"),
    ("resnet_v2_50", "block1/unit_1", (8, 8, 16), "conv1 block1 m_logits"),
    ("inception_v1", "Mixed_3b", (4, 4, 256), "Conv2d_1a_7x7 Conv2d_2b_1x1 Conv2d_2c_3x3 Mixed_3b m_logits"),
])
def test_a_cut_network_ends_with_what_tf_slim_calls_so(net: str, cut: str, shape: tuple[int, ...], scopes: str):
    network = narrow(net, cut, "flatten")
    assert " ".join(network.scopes) == scopes
    backbone, head = network.cut(network.scopes[-1])
    flat = backbone(np.zeros((2, 32, 32, 3), np.float32))
    assert tuple(flat.shape) == (2, 1, 1, np.prod(shape))
    assert head(flat).shape == (2, 3)
    assert network.spec.cut == cut.removeprefix(f"{net}/")


def test_what_leaves_a_cut_network_is_what_is_inside_the_whole_one():
    images = np.random.default_rng(0).normal(0, 50, (2, 32, 32, 3)).astype(np.float32)
    whole, cut = narrow("vgg_16", None, "gap"), narrow("vgg_16", "pool3", "flatten")
    for name, variable in cut.variables().items():
        if not cut.is_head(name):
            variable.assign(whole.variables()[name])
    inside = keras.Model(whole.model.input, whole.entries["conv4"])(images)
    np.testing.assert_array_equal(np.asarray(cut.cut("m_fc8")[0](images)).ravel(), np.asarray(inside).ravel())


def test_grad_cam_sees_the_grid_before_the_pool_at_which_a_network_is_cut():
    assert narrow("vgg_16", "pool3", "flatten").grid.shape[1:3] == (8, 8)
    assert narrow("vgg_16", "conv3", "flatten").grid.shape[1:3] == (8, 8)
    assert narrow("resnet_v2_50", "block1").grid.shape[1:3] == (4, 4)


def test_a_cut_network_takes_pictures_for_which_the_whole_one_has_no_grid():
    assert narrow("vgg_16", "pool2", "flatten", 8).entries["m_fc8"].shape[-1] == 2 * 2 * 8
    with pytest.raises(UsageError, match="`image_size` 8: must be from 32 to 2048 for vgg_16"):
        net_spec("vgg_16", 8)
    with pytest.raises(UsageError, match="`image_size` 20: too small for alexnet_v2, which needs 67, also with `cut`"):
        narrow("alexnet_v2", "pool1", "flatten", 20)


def test_a_cut_that_cannot_be_is_named_with_those_that_can():
    with pytest.raises(UsageError, match=r"`cut` pool6: vgg_16 has no such scope or pool before its head; there are "
                                         r"conv1, pool1, conv2, pool2, conv3, pool3, conv4, pool4, conv5, pool5$"):
        build_network("vgg_16", "gap", 3, image_size=32, cut="pool6")
    with pytest.raises(UsageError, match="`cut` pool3: the layers of `head` fc are made for the whole vgg_16; choose "
                                         "`head` flatten, gap or gap"):
        build_network("vgg_16", "fc", 3, cut="pool3")


def test_an_archive_of_all_convolutions_fills_a_cut_network_and_the_rest_is_unused(tmp_path: Path):
    network = narrow("vgg_16", "pool2", "flatten")
    random, arrays = np.random.default_rng(0), {}
    for name, variable in narrow("vgg_16", None, "gap").variables().items():
        layer, word = name.split("/")[-2:]
        if not network.is_head(name):
            arrays[f"{layer}_{'W' if word == 'weights' else 'b'}"] = random.normal(size=variable.shape)
    NPZ.write(tmp_path / "vgg16-conv-weights.npz", {name: array.astype(np.float32) for name, array in arrays.items()})
    diff = restore(network, load_weights_file(tmp_path / "vgg16-conv-weights.npz", "vgg_16"))
    assert {name.split("/")[1] for name in diff.restored} == {"conv1", "conv2"}
    assert {entry.name.split("/")[1] for entry in diff.of(Status.UNUSED)} == {"conv3", "conv4", "conv5"}
    assert diff.network == "vgg_16 up to pool2 (flatten head, 3 classes)"


def test_what_begins_with_an_excluded_name_is_left_out_but_a_number_is_whole():
    network = narrow("resnet_v1_50", None)
    shapes = {name: tuple(variable.shape) for name, variable in network.variables().items()}

    def excluded(scope: str) -> set[str]:
        diff = compare({**shapes, "resnet_v1_50/block10/weights": (1,)}, network, [scope])
        return {entry.name.split("/")[1] for entry in diff.of(Status.EXCLUDED)}

    assert excluded("block") == {"block1", "block2", "block3", "block4"}
    assert excluded("resnet_v1_50/block1") == excluded("block1/") == {"block1"}
    assert excluded("block1/unit_2/bottleneck_v1/conv") == {"block1"}
    with pytest.raises(UsageError, match="`exclude` lock: neither the network nor the file has such a scope"):
        excluded("lock")
