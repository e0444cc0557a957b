"""The name maps: layouts are their own inverses, every tensor has a place, and the networks compute the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voc_cls.errors import WeightsError
from voc_cls.nets.network import without_values
from voc_cls.nets.registry import NETS
from voc_cls.weights.load import SCHEMES
from voc_cls.weights.naming import KERNEL, OIHW, Layout, NamingScheme, keras, torchvision
from voc_cls.weights.naming.slim import slim_shapes
from voc_cls.weights.tensors import TensorInfo, WeightFile, arrays_file

pytestmark = pytest.mark.slow  # takes seconds; `make test-fast` leaves it out

RESNETS_V1 = ("resnet_v1_50", "resnet_v1_101", "resnet_v1_152")
MAPPED = [(keras.SCHEME, net) for net in keras.MODELS] \
    + [(torchvision.SCHEME, net) for net in ("vgg_16", "vgg_19", *RESNETS_V1)]


def dictionary(arrays: dict[str, np.ndarray[Any, Any]]) -> WeightFile:
    """A weight file that is a dictionary."""
    return arrays_file(Path("dictionary"), "dictionary", arrays)


def infos(shapes: dict[str, tuple[int, ...]]) -> dict[str, TensorInfo]:
    return {name: TensorInfo(tuple(shape), "float32") for name, shape in shapes.items()}


def written(scheme: NamingScheme, net: str, tensors: dict[str, TensorInfo]) -> dict[str, tuple[int, ...]]:
    """Foreign name → shape of what is written for TF-Slim's `tensors`."""
    found = {}
    for mapping in scheme.mappings(NETS[net], tensors):
        array = np.broadcast_to(np.float32(0), tensors[mapping.slim].shape)
        found |= {name: value.shape for name, value in mapping.to_foreign(array).items()}
    return found


def layouts() -> Iterator[tuple[Layout, tuple[int, ...]]]:
    random = np.random.default_rng(3)
    for axes in (KERNEL, OIHW):
        for grid in (0, 1, 2, 7):
            for bgr in (False, True):
                for _ in range(5):
                    height, width, inputs, outputs = random.integers(1, 6, 4)
                    yield Layout(axes, grid, bgr), (grid or int(height), grid or int(width), int(inputs), int(outputs))


def test_every_layout_is_undone_by_its_inverse_bit_for_bit():
    for layout, shape in layouts():
        slim = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        foreign = layout.from_slim(slim)
        assert layout.slim_shape(foreign.shape) == shape
        assert np.array_equal(layout.to_slim(np.ascontiguousarray(foreign)), slim), layout


def test_a_dense_kernel_of_pytorch_has_its_inputs_in_the_order_channel_height_width():
    slim = np.arange(2 * 2 * 3 * 5).reshape(2, 2, 3, 5)  # height, width, channel, output
    matrix = Layout(OIHW, grid=2).from_slim(slim)
    assert matrix.shape == (5, 12)
    assert matrix[4, 2 * 4 + 1 * 2 + 0] == slim[1, 0, 2, 4]
    assert Layout(KERNEL, grid=2).from_slim(slim)[(1 * 2 + 0) * 3 + 2, 4] == slim[1, 0, 2, 4]


@pytest.mark.parametrize("shape", [(), (7,), (5, 5), (2, 3, 4), (1, 2, 3, 4, 5)])
def test_a_tensor_of_another_rank_stays_as_it_is_for_the_diff_to_show(shape: tuple[int, ...]):
    array = np.zeros(shape)
    for layout in (Layout(OIHW), Layout(OIHW, grid=3), Layout(KERNEL, bgr=True)):
        assert layout.slim_shape(shape) == layout.to_slim(array).shape == shape
        if len(shape) != 4:
            assert layout.from_slim(array).shape == shape


@pytest.mark.parametrize(("scheme", "net"), MAPPED, ids=lambda value: getattr(value, "name", value))
def test_every_variable_of_tf_slims_network_has_one_place_and_the_file_is_recognised(scheme: NamingScheme, net: str):
    slim = infos(slim_shapes(NETS[net]))
    rows = scheme.mappings(NETS[net], slim)
    assert {row.slim for row in rows} == set(slim)
    foreign = written(scheme, net, slim)
    assert len(foreign) == sum(2 if row.folded else 1 for row in rows), "two tensors with one name"
    assert scheme.recognise(foreign) == net
    back = {row.slim: row.info(infos(foreign)) for row in scheme.mappings(NETS[net], infos(foreign))}
    assert back == slim
    assert [other.name for other in SCHEMES if other.recognise(foreign)] == [scheme.name]


def test_what_keras_writes_of_a_network_is_what_keras_itself_calls_it(applications: Callable[..., Any]):
    for net in ("vgg_19", "resnet_v1_50", "resnet_v2_50", "mobilenet_v1_1.0_224"):
        theirs = {variable.path: tuple(variable.shape) for variable in applications(net).weights}
        ours = written(keras.SCHEME, net, infos(slim_shapes(NETS[net], 1000)))
        convolutions = {name: shape for name, shape in theirs.items() if not name.startswith(("fc", "predictions"))}
        assert {name: shape for name, shape in ours.items() if name in convolutions} == convolutions
        assert not {name for name in ours if name not in theirs}


@pytest.fixture
def applications() -> Callable[..., Any]:
    """Builds a network of keras.applications without memory for values."""
    import keras as library

    def build(net: str) -> Any:
        size = 32 if net.startswith("vgg") else 75
        function = {"inception_v3": "InceptionV3", **keras.MODELS}[net]
        return without_values(partial(getattr(library.applications, function), weights=None,
                                      input_shape=(size, size, 3)))

    return build


def test_inceptions_numbered_layers_of_keras_are_taken_in_their_order(applications: Callable[..., Any]):
    theirs = {variable.path: tuple(variable.shape) for variable in applications("inception_v3").weights}
    assert keras.recognise(theirs) == "inception_v3"
    assert keras.recognise(list(theirs)[4:]) is None  # a convolution less is another network
    rows = {row.slim: row.info(infos(theirs)) for row in keras.mappings(NETS["inception_v3"], infos(theirs))}
    ours = infos(slim_shapes(NETS["inception_v3"], 1000))
    assert rows == {name: info for name, info in ours.items() if "/AuxLogits/" not in name}
    assert keras.mappings(NETS["inception_v3"], ours) == ()


def test_keras_nasnet_is_refused_because_it_computes_something_else():
    with pytest.raises(WeightsError, match=r"another function than TF-Slim's: its reduction cells pool and pad"):
        keras.recognise(["stem_conv1/kernel", "stem_bn1/gamma"])


def test_a_file_without_dense_layers_gives_rows_for_what_it_has():
    names = infos({"features.28.weight": (512, 512, 3, 3), "features.0.weight": (64, 3, 3, 3)})
    assert torchvision.recognise(names) == "vgg_16"
    assert [row.slim for row in torchvision.mappings(NETS["vgg_16"], names)] == [
        "vgg_16/conv1/conv1_1/weights", "vgg_16/conv5/conv5_3/weights"]


def test_a_new_head_keeps_its_name_in_every_scheme():
    tensors = infos({"vgg_16/m_fc8/weights": (1, 1, 4096, 20), "vgg_16/m_fc8/biases": (20,)})
    assert written(keras.SCHEME, "vgg_16", tensors) == {"m_fc8/kernel": (4096, 20), "m_fc8/bias": (20,)}
    assert written(torchvision.SCHEME, "vgg_16", tensors) == {"m_fc8.weight": (20, 4096), "m_fc8.bias": (20,)}


@pytest.mark.parametrize("names", [
    ["features.0.weight", "features.10.weight", "features.16.bias"],  # AlexNet, VGG-11
    ["layer3.5.conv1.weight", "layer3.5.conv2.weight"],  # ResNet-34
    ["conv2d/kernel"], ["vgg_16/conv1/conv1_1/weights"], []])
def test_files_of_other_networks_are_not_recognised(names: list[str]):
    assert [scheme.recognise(names) for scheme in (keras.SCHEME, torchvision.SCHEME, keras.TF2ONNX)] == [None] * 3


def test_a_vgg_with_batch_normalisation_is_refused_in_a_sentence():
    with pytest.raises(WeightsError, match=r"vgg16_bn.*take the weights of vgg16"):
        torchvision.recognise(["features.0.weight", "features.1.running_mean", "features.28.weight"])


def test_keras_biases_before_a_batch_normalisation_go_into_its_mean_and_come_out_as_zeros():
    file = dictionary({"conv1_bn/moving_mean": np.array([3.0, 1.0], np.float32),
                    "conv1_conv/bias": np.array([1.0, -2.0], np.float32)})
    (row,) = keras.mappings(NETS["resnet_v1_50"], file.tensors)
    assert row.slim == "resnet_v1_50/conv1/BatchNorm/moving_mean"
    assert row.read(file).tolist() == [2.0, 3.0]
    written = {name: array.tolist() for name, array in row.to_foreign(np.array([2.0, 3.0], np.float32)).items()}
    assert written == {"conv1_bn/moving_mean": [2.0, 3.0], "conv1_conv/bias": [0.0, 0.0]}


def test_keras_names_of_2015_are_read_for_resnet_50():
    found = infos({"res2a_branch2a/kernel": (1, 1, 64, 64), "res2a_branch2a/bias": (64,), "res4f_branch2c/bias": (9,),
                   "bn2a_branch2a/moving_mean": (64,), "res5c_branch2c/kernel": (1, 1, 512, 2048),
                   "bn3a_branch1/gamma": (512,), "fc1000/bias": (1000,)})
    assert keras.recognise(found) == "resnet_v1_50"
    unit = "resnet_v1_50/block1/unit_1/bottleneck_v1"
    rows = {row.slim: (row.foreign, row.folded) for row in keras.mappings(NETS["resnet_v1_50"], found)}
    assert rows[f"{unit}/conv1/BatchNorm/moving_mean"] == ("bn2a_branch2a/moving_mean", "res2a_branch2a/bias")
    assert rows["resnet_v1_50/block4/unit_3/bottleneck_v1/conv3/weights"] == ("res5c_branch2c/kernel", "")
    assert rows["resnet_v1_50/block2/unit_1/bottleneck_v1/shortcut/BatchNorm/gamma"] == ("bn3a_branch1/gamma", "")
    assert rows["resnet_v1_50/logits/biases"] == ("fc1000/bias", "")


def test_initialisers_that_tf2onnx_made_of_keras_vgg_16_are_read_as_its_kernels():
    random = np.random.default_rng(0)
    blocks = NETS["vgg_16"].blocks
    file = dictionary({
        **{f"functional_1/block{block}_conv{unit}_1/{what}": np.zeros(shape, np.float32)
           for block, (filters, units) in enumerate(blocks, 1) for unit in range(1, units + 1)
           for what, shape in (("convolution/ReadVariableOp:0", (filters, 1, 3, 3)), ("Squeeze:0", (filters,)))},
        "functional_1/block1_conv1_1/convolution/ReadVariableOp:0": random.standard_normal((64, 3, 3, 3)),
        "functional_1/fc1_1/MatMul/ReadVariableOp:0": random.standard_normal((2048, 6)),
        "const_fold_opt__12": np.zeros(2)})
    assert keras.TF2ONNX.recognise(file.tensors) == "vgg_16"
    rows = {row.slim: row for row in keras.tf2onnx_mappings(NETS["vgg_16"], file.tensors)}
    assert len(rows) == 27
    kernel = rows["vgg_16/conv1/conv1_1/weights"].read(file)
    given = file.read("functional_1/block1_conv1_1/convolution/ReadVariableOp:0")
    assert kernel[1, 2, 0, 5] == given[5, 2, 1, 2]  # HWIO of red, green, blue from OIHW of blue, green, red
    assert rows["vgg_16/fc6/weights"].info(file.tensors).shape == (2, 2, 512, 6)


def test_a_note_says_where_the_same_values_make_another_function():
    assert "last unit" in torchvision.SCHEME.notes["resnet_v1"]
    assert "224 pixels" in keras.SCHEME.notes["resnet_v1"]
    assert "vgg" not in keras.SCHEME.notes.keys() | torchvision.SCHEME.notes.keys()


FUNCTION = {"vgg_16": ("vgg16", 32, "block5_conv3"), "resnet_v1_50": ("resnet", 65, "conv5_block3_out"),
            "mobilenet_v1_1.0_224": ("mobilenet", 64, "conv_pw_13_relu")}
"""Network → module of keras.applications, pixels, layer of the last grid. At 65 both pad the first grid alike."""


@pytest.mark.parametrize("net", FUNCTION)
def test_keras_network_and_ours_say_the_same_of_a_picture_preprocessed_for_each(net: str):
    import keras as library

    from voc_cls.data.preprocessing import normalise
    from voc_cls.nets.network import build_network

    module, size, last = FUNCTION[net]
    library.utils.set_random_seed(2)
    theirs = getattr(library.applications, keras.MODELS[net])(weights=None, include_top=False,
                                                              input_shape=(size, size, 3))
    random = np.random.default_rng(0)
    for variable in theirs.weights:
        if variable.path.endswith(("bias", "beta", "moving_mean")):
            variable.assign(random.normal(0, 0.1, variable.shape))
        elif variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    file = dictionary({variable.path: np.asarray(variable) for variable in theirs.weights})
    rows = {row.slim: row for row in keras.mappings(NETS[net], file.tensors)}
    ours = build_network(net, "gap", 2, image_size=size)
    assert {name for name in ours.variables() if not ours.is_head(name)} == set(rows)
    for name, row in rows.items():
        ours.variables()[name].assign(row.read(file))

    pictures = random.integers(0, 256, (1, size, size, 3)).astype(np.float32)
    preprocessed = getattr(library.applications, module).preprocess_input(pictures.copy())
    expected = np.asarray(library.Model(theirs.input, theirs.get_layer(last).output)(preprocessed))
    grid = library.Model(ours.model.input, ours.grid)
    found = np.asarray(grid(normalise(pictures, ours.spec.preprocessing)))
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
