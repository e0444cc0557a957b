"""TF-Slim checkpoints, read and written."""

import contextlib
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from voc_cls.errors import WeightsError
from voc_cls.weights.formats import tf_checkpoint
from voc_cls.weights.formats.tf_checkpoint import write as write_checkpoint
from voc_cls.weights.load import load_weights_file
from voc_cls.weights.tensors import TensorInfo


def digest_of(path):
    return load_weights_file(path).digest()


@pytest.mark.parametrize("version", [1, 2])
def test_a_checkpoint_of_either_format_reads_as_it_was_written(version, tmp_path, save_slim, arrays):
    opened = tf_checkpoint.read(save_slim(tmp_path / "vgg_16.ckpt", arrays, version))
    assert opened.format == f"TF-Slim checkpoint, v{version}"
    assert list(opened.tensors) == sorted(arrays)
    for name, array in arrays.items():
        assert opened.tensors[name].shape == array.shape
        assert opened.tensors[name].dtype == array.dtype.name
        np.testing.assert_array_equal(opened.read(name), array)


@pytest.mark.parametrize(("version", "names"), [
    (2, ["model.ckpt-7", "model.ckpt-7.index", "model.ckpt-7.meta", "model.ckpt-7.data-00000-of-00001", "."]),
    (1, ["model.ckpt-7", "model.ckpt-7.meta", "."]),
])
def test_a_checkpoint_is_found_by_its_prefix_each_of_its_files_and_its_folder(version, names, tmp_path, save_slim,
                                                                               arrays):
    prefix = save_slim(tmp_path / "model.ckpt-7", arrays, version)
    for name in names:
        assert tf_checkpoint.read(tmp_path / name).path == prefix


def test_what_is_written_reads_back_equal_and_leaves_nothing_else_in_the_folder(tmp_path, arrays):
    write_checkpoint(tmp_path / "new/out.ckpt", arrays)
    opened = tf_checkpoint.read(tmp_path / "new/out.ckpt")
    assert {name: opened.read(name).tobytes() for name in opened.tensors} == {
        name: array.tobytes() for name, array in arrays.items()}
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [
        "out.ckpt.data-00000-of-00001", "out.ckpt.index"]


def test_writing_over_a_checkpoint_replaces_it(tmp_path, arrays):
    write_checkpoint(tmp_path / "out.ckpt", arrays)
    write_checkpoint(tmp_path / "out.ckpt", {"other": np.ones(3, np.float32)})
    assert tf_checkpoint.read(tmp_path / "out.ckpt").shapes == {"other": (3,)}


def test_the_digest_does_not_depend_on_the_file_format(tmp_path, save_slim, arrays):
    first = digest_of(save_slim(tmp_path / "one", arrays, 1))
    assert digest_of(save_slim(tmp_path / "two", arrays, 2)) == first
    write_checkpoint(tmp_path / "ours", dict(reversed(arrays.items())))
    assert digest_of(tmp_path / "ours") == first


@pytest.mark.parametrize("change", ["value", "name", "shape", "type"])
def test_the_digest_tells_another_content_apart(change, tmp_path, arrays):
    write_checkpoint(tmp_path / "a", arrays)
    bias = arrays.pop("vgg_16/conv1/conv1_1/biases")
    if change == "value":
        bias[1] = np.nextafter(bias[1], np.float32(9))
    name = "vgg_16/conv1/conv1_2/biases" if change == "name" else "vgg_16/conv1/conv1_1/biases"
    bias = bias.reshape(1, 2) if change == "shape" else bias.view(np.int32) if change == "type" else bias
    write_checkpoint(tmp_path / "b", {**arrays, name: bias})
    assert digest_of(tmp_path / "a") != digest_of(tmp_path / "b")


def test_strings_in_a_checkpoint_are_no_obstacle(tmp_path):
    write_checkpoint(tmp_path / "a", {"graph": np.array([b"one", b"two"], object)})
    write_checkpoint(tmp_path / "b", {"graph": np.array([b"one", b"three"], object)})
    assert digest_of(tmp_path / "a") != digest_of(tmp_path / "b")


def test_a_missing_file_is_named_together_with_the_checkpoints_beside_it(tmp_path, arrays):
    write_checkpoint(tmp_path / "vgg_16.ckpt", arrays)
    with pytest.raises(WeightsError, match=r"vgg16\.ckpt: no such checkpoint; beside it: vgg_16\.ckpt$"):
        tf_checkpoint.read(tmp_path / "vgg16.ckpt")
    with pytest.raises(WeightsError, match=r"nowhere/vgg\.ckpt: no such checkpoint; correct it$"):
        tf_checkpoint.read(Path("nowhere/vgg.ckpt"))


def test_a_folder_must_hold_one_checkpoint(tmp_path, save_slim, arrays):
    with pytest.raises(WeightsError, match="holds none; name the file"):
        tf_checkpoint.read(tmp_path)
    save_slim(tmp_path / "a.ckpt", arrays, 1)
    save_slim(tmp_path / "b.ckpt", arrays, 2)
    with pytest.raises(WeightsError, match=r"holds 2: a\.ckpt, b\.ckpt; name the file"):
        tf_checkpoint.read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>", b"x" * 5000])
def test_a_file_that_is_no_checkpoint_is_refused(content, tmp_path):
    (tmp_path / "vgg_16.ckpt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"vgg_16\.ckpt is not a checkpoint, or only the beginning of one"):
        tf_checkpoint.read(tmp_path / "vgg_16.ckpt")


@pytest.mark.parametrize(("version", "suffix"), [(1, ""), (2, ".index")])
def test_a_checkpoint_cut_short_is_refused(version, suffix, tmp_path, save_slim, arrays):
    file = Path(f"{save_slim(tmp_path / 'vgg_16.ckpt', arrays, version)}{suffix}")
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(WeightsError, match="only the beginning of one"):
        tf_checkpoint.read(tmp_path / "vgg_16.ckpt")


def test_an_index_without_its_data_says_what_to_copy(tmp_path, save_slim, arrays):
    save_slim(tmp_path / "vgg_16.ckpt", arrays)
    data, index = tmp_path / "vgg_16.ckpt.data-00000-of-00001", tmp_path / "vgg_16.ckpt.index"
    shutil.move(data, tmp_path / "kept")
    with pytest.raises(WeightsError, match=r"index is there, but 0 of 1 vgg_16\.ckpt\.data files: .* copy the rest"):
        tf_checkpoint.read(tmp_path / "vgg_16.ckpt")
    shutil.move(tmp_path / "kept", data)
    index.unlink()
    with pytest.raises(WeightsError, match=r"without vgg_16\.ckpt\.index, .* copy both"):
        tf_checkpoint.read(tmp_path / "vgg_16.ckpt")


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_tensor_whose_bytes_are_damaged_is_named(damage, tmp_path, arrays):
    write_checkpoint(tmp_path / "vgg_16.ckpt", arrays)
    data = tmp_path / "vgg_16.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content[:-4] if damage == "cut" else content)
    opened = tf_checkpoint.read(tmp_path / "vgg_16.ckpt")
    opened.read("vgg_16/conv1/conv1_1/weights")
    with pytest.raises(WeightsError, match=r"the tensor vgg_16/mean_rgb cannot be read \(.+\): .* fetch it again"):
        opened.read("vgg_16/mean_rgb")


TYPES = {name: (np.arange(6).reshape(2, 3) - 2).astype(name) for name in (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool", "complex64")}


@pytest.mark.parametrize("version", [1, 2])
def test_every_type_and_an_empty_tensor_reads_as_tensorflow_saved_it(version, tmp_path, save_slim):
    types = {name: array for name, array in TYPES.items() if version == 2 or name not in
             ("float16", "complex64")}  # which TensorFlow does not read of version 1
    arrays = {**types, "empty": np.zeros((0, 3), np.float32), "x" * 5000: np.ones(1, np.float32)}
    prefix = save_slim(tmp_path / "types.ckpt", arrays, version)
    opened = tf_checkpoint.read(prefix)
    for name, expected in arrays.items():
        assert opened.tensors[name] == TensorInfo(expected.shape, expected.dtype.name)
        assert opened.read(name).tobytes() == expected.tobytes()


def test_tensorflow_reads_what_is_written(tmp_path, arrays):
    strings = np.array([[b"one", b"", b"three" * 50]], object)
    turned = np.asfortranarray(np.arange(24, dtype=np.float32).reshape(2, 3, 4)[:, ::-1])
    halves = np.linspace(0, 1, 5).astype(ml_dtypes.bfloat16)
    written = {**TYPES, **arrays, "strings": strings, "turned": turned, "halves": halves, "none": np.zeros((3, 0))}
    write_checkpoint(tmp_path / "ours.ckpt", written)
    reader = tf.train.load_checkpoint(str(tmp_path / "ours.ckpt"))
    assert set(reader.get_variable_to_shape_map()) == set(written)
    for name, array in written.items():
        np.testing.assert_array_equal(reader.get_tensor(name), array)
        assert reader.get_tensor(name).dtype == array.dtype
        np.testing.assert_array_equal(tf_checkpoint.read(tmp_path / "ours.ckpt").read(name), array)


def test_tf_slims_saver_restores_what_is_written(tmp_path, arrays):
    write_checkpoint(tmp_path / "ours.ckpt", arrays)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = {name: v1.get_variable(name, array.shape, array.dtype, use_resource=False)
                     for name, array in arrays.items()}
        v1.train.Saver(variables).restore(session, str(tmp_path / "ours.ckpt"))
        for name, array in arrays.items():
            np.testing.assert_array_equal(session.run(variables[name]), array)


def test_a_variable_in_slices_is_read_whole(tmp_path):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        sliced = v1.get_variable("sliced", (4, 2), use_resource=False, partitioner=v1.fixed_size_partitioner(2))
        session.run(v1.global_variables_initializer())
        values = session.run(sliced.as_tensor())
        v1.train.Saver().save(session, str(tmp_path / "sliced.ckpt"), write_meta_graph=False)
    np.testing.assert_array_equal(tf_checkpoint.read(tmp_path / "sliced.ckpt").read("sliced"), values)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("place", [3, 40, -60, -20])
def test_a_flipped_byte_gives_the_right_values_or_a_sentence(version, place, tmp_path, save_slim, arrays):
    prefix = save_slim(tmp_path / "vgg_16.ckpt", arrays, version)
    file = Path(f"{prefix}{'' if version == 1 else '.index'}")
    content = bytearray(file.read_bytes())
    content[place] ^= 0x41
    file.write_bytes(content)
    with contextlib.suppress(WeightsError):
        opened = tf_checkpoint.read(prefix)
        for name in opened.tensors:
            assert opened.read(name).tobytes() == arrays[name].tobytes()


def test_a_checkpoint_of_version_2_takes_the_place_of_one_of_version_1(tmp_path, save_slim, arrays):
    save_slim(tmp_path / "a.ckpt", arrays, 1)
    write_checkpoint(tmp_path / "new", {"other": np.ones(3, np.float32)})
    tf_checkpoint.move_checkpoint(tmp_path / "new", tmp_path / "a.ckpt")
    assert sorted(file.name for file in tmp_path.iterdir() if not file.name.endswith(".meta")) == [
        "a.ckpt.data-00000-of-00001", "a.ckpt.index"]
