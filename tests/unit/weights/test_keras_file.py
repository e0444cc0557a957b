"""Keras' files, all three kinds: what Keras wrote is read, what is written Keras reads, damage is a sentence."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from voc_cls.errors import WeightsError
from voc_cls.nets.registry import NETS
from voc_cls.weights.formats import keras as keras_format
from voc_cls.weights.naming.keras import mappings, recognise
from voc_cls.weights.tensors import TensorInfo

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

Arrays = dict[str, np.ndarray[Any, Any]]


def weights(model: keras.Model) -> Arrays:
    return {variable.path: np.asarray(variable) for variable in model.weights}


@pytest.fixture
def small() -> Callable[[], keras.Model]:
    """Builds a network with every kind of layer that is mapped; its values differ from one to the next."""
    def build() -> keras.Model:
        images = keras.Input((8, 8, 3))
        features = keras.layers.Conv2D(4, 3, name="block1_conv1")(images)
        features = keras.layers.BatchNormalization(name="block1_bn")(features)
        features = keras.layers.DepthwiseConv2D(3, use_bias=False, name="conv_dw_1")(features)
        features = keras.layers.BatchNormalization(scale=False, name="conv_dw_1_bn")(features)
        features = keras.layers.Conv2D(5, 1, use_bias=False, name="block1_conv2")(features)
        features = keras.layers.Flatten(name="flatten")(features)
        features = keras.layers.Dense(6, name="fc1")(features)
        model = keras.Model(images, keras.layers.Dense(2, name="predictions")(features))
        for variable in model.weights:
            variable.assign(np.random.default_rng(variable.shape[0]).standard_normal(variable.shape))
        return model

    return build


def same(file: Any, arrays: Arrays) -> None:
    assert file.tensors == {name: TensorInfo(array.shape, array.dtype.name) for name, array in sorted(arrays.items())}
    for name, array in arrays.items():
        assert file.read(name).tobytes() == array.tobytes(), name


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize(("name", "kind"), [("net.h5", "Keras .h5"), ("net.keras", "Keras 3 .keras"),
                                            ("net.weights.h5", "Keras 3 .weights.h5")])
def test_what_keras_writes_is_read_under_one_set_of_names(
        tmp_path: Path, small: Callable[[], keras.Model], name: str, kind: str):
    model = small()
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    (model.save_weights if name.endswith(".weights.h5") else model.save)(tmp_path / name)
    file = keras_format.read(tmp_path / name)
    assert file.format == kind
    same(file, weights(model))


def legacy(path: Path, layers: dict[str, dict[str, np.ndarray[Any, Any]]], root: str = "/", **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        group = file.require_group(root)
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, variables in layers.items():
            group.create_group(layer).attrs["weight_names"] = [name.encode() for name in variables]
            for name, value in variables.items():
                group[layer].create_dataset(name, data=value, **options)
    return path


ONE, TWO = np.ones((3, 3, 3, 2), np.float32), np.full(2, 2, np.float32)


@pytest.mark.parametrize(("kernel", "bias"), [
    ("block1_conv1_W_1:0", "block1_conv1_b_1:0"), ("block1_conv1/kernel:0", "block1_conv1/bias:0"),
    ("block1_conv1_1/kernel:0", "block1_conv1_1/bias:0"), ("block1_conv1/kernel", "block1_conv1/bias")])
def test_the_spellings_of_keras_1_2_and_3_are_read(tmp_path: Path, kernel: str, bias: str):
    file = keras_format.read(legacy(tmp_path / "w.h5", {"input_1": {}, "block1_conv1": {kernel: ONE, bias: TWO}}))
    same(file, {"block1_conv1/kernel": ONE, "block1_conv1/bias": TWO})


def test_batch_normalisation_of_keras_1_and_a_network_within_a_network_are_read(tmp_path: Path):
    names = ("gamma", "beta", "running_mean", "running_std")
    path = legacy(tmp_path / "w.h5", {
        "bn_conv1": {f"bn_conv1_{name}:0": TWO * number for number, name in enumerate(names)},
        "vgg16": {"block1_conv1/kernel:0": ONE, "block1_conv2/kernel:0": ONE}}, "model_weights")
    same(keras_format.read(path), {"bn_conv1/gamma": TWO * 0, "bn_conv1/beta": TWO, "bn_conv1/moving_mean": TWO * 2,
                            "bn_conv1/moving_variance": TWO * 3, "block1_conv1/kernel": ONE,
                            "block1_conv2/kernel": ONE})


def test_long_lists_of_layers_are_in_several_attributes(tmp_path: Path):
    path = legacy(tmp_path / "w.h5", {"a": {"a/kernel": ONE}, "b": {"b/kernel": ONE}})
    with h5py.File(path, "r+") as file:
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [b"a"], [b"b"]
    same(keras_format.read(path), {"a/kernel": ONE, "b/kernel": ONE})


def test_other_types_and_byte_orders_are_read(tmp_path: Path):
    path = legacy(tmp_path / "w.h5", {"a": {"a/kernel": np.arange(3, dtype=">f4"), "a/bias": np.arange(2.0)},
                                      "b": {"b/kernel": np.arange(3, dtype=np.float16)}})
    same(keras_format.read(path), {"a/kernel": np.arange(3, dtype=np.float32), "a/bias": np.arange(2.0),
                            "b/kernel": np.arange(3, dtype=np.float16)})


def test_layers_that_a_file_of_early_keras_3_does_not_name_are_named_by_the_archives_config(
        tmp_path: Path, small: Callable[[], keras.Model]):
    model = small()
    model.save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        archive.extractall(tmp_path)
    with h5py.File(tmp_path / "model.weights.h5", "r+") as file:
        file.visititems(lambda _, thing: thing.attrs.pop("name", None) if "name" in thing.attrs else None)
    with pytest.raises(WeightsError, match=r"does not name its layers .* save the model as \.keras"):
        keras_format.read(tmp_path / "model.weights.h5")
    with zipfile.ZipFile(tmp_path / "early.keras", "w") as archive:
        for name in ("config.json", "model.weights.h5"):
            archive.write(tmp_path / name, name)
    same(keras_format.read(tmp_path / "early.keras"), weights(model))


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5"])
def test_what_is_written_keras_loads_into_its_own_network(
        tmp_path: Path, small: Callable[[], keras.Model], name: str):
    model = small()
    arrays = weights(model)
    keras_format.write(tmp_path / name, {name: np.asfortranarray(array) for name, array in arrays.items()})
    same(keras_format.read(tmp_path / name), arrays)
    for variable in model.weights:
        variable.assign(variable * 0)
    model.load_weights(tmp_path / name)
    assert {path: value.tobytes() for path, value in weights(model).items()} == {
        path: value.tobytes() for path, value in arrays.items()}


def test_tf_slims_resnet_50_becomes_a_keras_file_that_keras_loads_whole_and_comes_back_bit_for_bit(tmp_path: Path):
    from voc_cls.weights.naming.slim import slim_shapes

    random = np.random.default_rng(0)
    slim = {name: random.standard_normal(shape, np.float32) + 2 * name.endswith("variance")
            for name, shape in slim_shapes(NETS["resnet_v1_50"], 3).items()}
    infos = {name: TensorInfo(value.shape, "float32") for name, value in slim.items()}
    written = {name: array for mapping in mappings(NETS["resnet_v1_50"], infos)
               for name, array in mapping.to_foreign(slim[mapping.slim]).items()}
    for name in ("net.h5", "net.keras"):
        keras_format.write(tmp_path / name, written)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.h5", "net.keras"]
    file = keras_format.read(tmp_path / "net.keras")
    assert recognise(file.tensors) == "resnet_v1_50"
    back = {mapping.slim: mapping.read(file) for mapping in mappings(NETS["resnet_v1_50"], file.tensors)}
    assert back.keys() == slim.keys()
    assert all(back[name].tobytes() == value.tobytes() for name, value in slim.items())

    model = keras.models.load_model(tmp_path / "net.keras")
    assert (model.name, model.output_shape) == ("resnet50", (None, 3))
    assert all(np.array_equal(file.read(name), value) for name, value in weights(model).items())
    for variable in model.weights:
        variable.assign(variable * 0)
    model.load_weights(tmp_path / "net.h5")
    assert all(np.array_equal(file.read(name), value) for name, value in weights(model).items())


def test_a_keras_archive_is_refused_for_what_keras_has_no_network_of(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"not of one that keras\.applications has .*: write \.h5"):
        keras_format.write(tmp_path / "net.keras", {"a/kernel": ONE})
    with pytest.raises(WeightsError, match=r"the whole VGG16, and 25 tensors .* such as block1_conv1/bias: write \.h5"):
        keras_format.write(tmp_path / "net.keras", {"block5_conv3/kernel": ONE})
    assert not list(tmp_path.iterdir())


def test_links_and_values_that_lead_to_other_files_are_not_followed(tmp_path: Path):
    secret = legacy(tmp_path / "secret.h5", {"a": {"a/kernel": ONE}})
    path = legacy(tmp_path / "w.h5", {"a": {"a/kernel": ONE}})
    for link in (h5py.ExternalLink(secret, "/a"), h5py.SoftLink("/b")):
        with h5py.File(path, "r+") as file:
            del file["a"]
            file["a"] = link
        with pytest.raises(WeightsError, match="a is a link to another place or file"):
            keras_format.read(path)
    path.unlink()
    legacy(path, {"a": {"a/kernel": ONE}}, external=[(str(tmp_path / "values.bin"), 0, ONE.nbytes)])
    with pytest.raises(WeightsError, match="has its values in another file"):
        keras_format.read(path)


def test_compressed_values_are_read(tmp_path: Path):
    values = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    same(keras_format.read(legacy(tmp_path / "w.h5", {"a": {"a/kernel": values}}, compression="gzip")),
         {"a/kernel": values})


def test_an_archive_that_was_compressed_afterwards_is_read(tmp_path: Path, small: Callable[[], keras.Model]):
    model = small()
    model.save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as whole, \
            zipfile.ZipFile(tmp_path / "small.keras", "w", zipfile.ZIP_DEFLATED) as compressed:
        for name in whole.namelist():
            compressed.writestr(name, whole.read(name))
    same(keras_format.read(tmp_path / "small.keras"), weights(model))


def test_a_shape_without_values_is_one_sentence(tmp_path: Path):
    path = legacy(tmp_path / "w.h5", {"a": {"a/kernel": ONE}})
    with h5py.File(path, "r+") as file:
        del file["a/a/kernel"]
        file.create_dataset("a/a/kernel", (10**7, 10**7), "f4")
    with pytest.raises(WeightsError, match=r"w\.h5: the tensor a/kernel cannot be read"):
        keras_format.read(path).read("a/kernel")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"])
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "w.h5").write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.h5 cannot be read") as caught:
        keras_format.read(tmp_path / "w.h5")
    assert "\n" not in str(caught.value)


def test_other_archives_and_other_hdf5_files_are_refused(tmp_path: Path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["data"] = ONE
    with pytest.raises(WeightsError, match="no layers of Keras"):
        keras_format.read(tmp_path / "w.h5")
    with zipfile.ZipFile(tmp_path / "w.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({}))
    with pytest.raises(WeightsError, match="not one of Keras"):
        keras_format.read(tmp_path / "w.keras")


def test_a_byte_that_is_wrong_in_an_archive_fails_its_checksum(tmp_path: Path, small: Callable[[], keras.Model]):
    model = small()
    model.save(tmp_path / "net.keras")
    content = bytearray((tmp_path / "net.keras").read_bytes())
    content[content.index(weights(model)["fc1/kernel"].tobytes()) + 40] ^= 1
    (tmp_path / "net.keras").write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged, cut short"):
        keras_format.read(tmp_path / "net.keras")


def test_a_file_cut_short_is_one_sentence(tmp_path: Path):
    content = legacy(tmp_path / "w.h5", {"a": {"a/kernel": ONE}}).read_bytes()
    (tmp_path / "w.h5").write_bytes(content[:len(content) // 2])
    with pytest.raises(WeightsError, match=r"w\.h5 cannot be read .*: the file is damaged, cut short") as caught:
        keras_format.read(tmp_path / "w.h5")
    assert "\n" not in str(caught.value)
