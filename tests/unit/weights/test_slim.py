"""TF-Slim checkpoints, read and written."""

import shutil
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from voc_cls.errors import WeightsError
from voc_cls.weights.bundle import HEADER
from voc_cls.weights.load import digest
from voc_cls.weights.slim import open_checkpoint, write_checkpoint
from voc_cls.weights.table import Table, write_table
from voc_cls.weights.tensors import TensorInfo
from voc_cls.weights.wire import put_bytes, put_number


@pytest.mark.parametrize("version", [1, 2])
def test_a_checkpoint_of_either_format_reads_as_it_was_written(version, tmp_path, save_slim, arrays):
    opened = open_checkpoint(save_slim(tmp_path / "vgg_16.ckpt", arrays, version))
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
        assert open_checkpoint(tmp_path / name).prefix == prefix


def test_what_is_written_reads_back_equal_and_leaves_nothing_else_in_the_folder(tmp_path, arrays):
    write_checkpoint(tmp_path / "new/out.ckpt", arrays)
    opened = open_checkpoint(tmp_path / "new/out.ckpt")
    assert {name: opened.read(name).tobytes() for name in opened.tensors} == {
        name: array.tobytes() for name, array in arrays.items()}
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [
        "out.ckpt.data-00000-of-00001", "out.ckpt.index"]


def test_writing_over_a_checkpoint_replaces_it(tmp_path, arrays):
    write_checkpoint(tmp_path / "out.ckpt", arrays)
    write_checkpoint(tmp_path / "out.ckpt", {"other": np.ones(3, np.float32)})
    assert open_checkpoint(tmp_path / "out.ckpt").shapes == {"other": (3,)}


def test_the_digest_does_not_depend_on_the_file_format(tmp_path, save_slim, arrays):
    first = digest(save_slim(tmp_path / "one", arrays, 1))
    assert digest(save_slim(tmp_path / "two", arrays, 2)) == first
    write_checkpoint(tmp_path / "ours", dict(reversed(arrays.items())))
    assert digest(tmp_path / "ours") == first


@pytest.mark.parametrize("change", ["value", "name", "shape", "type"])
def test_the_digest_tells_another_content_apart(change, tmp_path, arrays):
    write_checkpoint(tmp_path / "a", arrays)
    bias = arrays.pop("vgg_16/conv1/conv1_1/biases")
    if change == "value":
        bias[1] = np.nextafter(bias[1], np.float32(9))
    name = "vgg_16/conv1/conv1_2/biases" if change == "name" else "vgg_16/conv1/conv1_1/biases"
    bias = bias.reshape(1, 2) if change == "shape" else bias.view(np.int32) if change == "type" else bias
    write_checkpoint(tmp_path / "b", {**arrays, name: bias})
    assert digest(tmp_path / "a") != digest(tmp_path / "b")


def test_strings_in_a_checkpoint_are_no_obstacle(tmp_path):
    write_checkpoint(tmp_path / "a", {"graph": np.array([b"one", b"two"], object)})
    write_checkpoint(tmp_path / "b", {"graph": np.array([b"one", b"three"], object)})
    assert digest(tmp_path / "a") != digest(tmp_path / "b")


def test_a_missing_file_is_named_together_with_the_checkpoints_beside_it(tmp_path, arrays):
    write_checkpoint(tmp_path / "vgg_16.ckpt", arrays)
    with pytest.raises(WeightsError, match=r"vgg16\.ckpt: no such checkpoint; beside it: vgg_16\.ckpt$"):
        open_checkpoint(tmp_path / "vgg16.ckpt")
    with pytest.raises(WeightsError, match=r"nowhere/vgg\.ckpt: no such checkpoint$"):
        open_checkpoint(Path("nowhere/vgg.ckpt"))


def test_a_folder_must_hold_one_checkpoint(tmp_path, save_slim, arrays):
    with pytest.raises(WeightsError, match="holds none; name the file"):
        open_checkpoint(tmp_path)
    save_slim(tmp_path / "a.ckpt", arrays, 1)
    save_slim(tmp_path / "b.ckpt", arrays, 2)
    with pytest.raises(WeightsError, match=r"holds 2: a\.ckpt, b\.ckpt; name the file"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>", b"x" * 5000])
def test_a_file_that_is_no_checkpoint_is_refused(content, tmp_path):
    (tmp_path / "vgg_16.ckpt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"vgg_16\.ckpt is no checkpoint, or only the beginning of one"):
        open_checkpoint(tmp_path / "vgg_16.ckpt")


@pytest.mark.parametrize(("version", "suffix"), [(1, ""), (2, ".index")])
def test_a_checkpoint_cut_short_is_refused(version, suffix, tmp_path, save_slim, arrays):
    file = Path(f"{save_slim(tmp_path / 'vgg_16.ckpt', arrays, version)}{suffix}")
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(WeightsError, match="only the beginning of one"):
        open_checkpoint(tmp_path / "vgg_16.ckpt")


def test_an_index_without_its_data_says_what_to_copy(tmp_path, save_slim, arrays):
    save_slim(tmp_path / "vgg_16.ckpt", arrays)
    data, index = tmp_path / "vgg_16.ckpt.data-00000-of-00001", tmp_path / "vgg_16.ckpt.index"
    shutil.move(data, tmp_path / "kept")
    with pytest.raises(WeightsError, match=r"index is there, but 0 of 1 vgg_16\.ckpt\.data files: .* copy the rest"):
        open_checkpoint(tmp_path / "vgg_16.ckpt")
    shutil.move(tmp_path / "kept", data)
    index.unlink()
    with pytest.raises(WeightsError, match=r"without vgg_16\.ckpt\.index, .* copy both"):
        open_checkpoint(tmp_path / "vgg_16.ckpt")


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_tensor_whose_bytes_are_damaged_is_named(damage, tmp_path, arrays):
    write_checkpoint(tmp_path / "vgg_16.ckpt", arrays)
    data = tmp_path / "vgg_16.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content[:-4] if damage == "cut" else content)
    opened = open_checkpoint(tmp_path / "vgg_16.ckpt")
    opened.read("vgg_16/conv1/conv1_1/weights")
    with pytest.raises(WeightsError, match=r"the tensor vgg_16/mean_rgb cannot be read \(.+\); .* fetch the file"):
        opened.read("vgg_16/mean_rgb")


TYPES = {name: (np.arange(6).reshape(2, 3) - 2).astype(name) for name in (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool", "complex64")}


@pytest.mark.parametrize("version", [1, 2])
def test_every_type_and_an_empty_tensor_reads_as_tensorflow_saved_it(version, tmp_path, save_slim):
    arrays = {**TYPES, "empty": np.zeros((0, 3), np.float32), "x" * 5000: np.ones(1, np.float32)}
    prefix = save_slim(tmp_path / "types.ckpt", arrays, version)
    opened = open_checkpoint(prefix)
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
        np.testing.assert_array_equal(open_checkpoint(tmp_path / "ours.ckpt").read(name), array)


def test_tf_slims_saver_restores_what_is_written(tmp_path, arrays):
    write_checkpoint(tmp_path / "ours.ckpt", arrays)
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        variables = {name: v1.get_variable(name, array.shape, array.dtype, use_resource=False)
                     for name, array in arrays.items()}
        v1.train.Saver(variables).restore(session, str(tmp_path / "ours.ckpt"))
        for name, array in arrays.items():
            np.testing.assert_array_equal(session.run(variables[name]), array)


def test_many_tensors_take_several_blocks(tmp_path, save_slim):
    arrays = {f"layer_{number}/weights": np.full(300, number, np.float32) for number in range(120)}
    for version in (1, 2):
        opened = open_checkpoint(save_slim(tmp_path / f"many{version}", arrays, version))
        assert all(opened.read(name)[0] == array[0] for name, array in arrays.items())


@pytest.mark.parametrize("version", [1, 2])
def test_a_variable_in_slices_is_refused(version, tmp_path):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("sliced", (4, 2), use_resource=False, partitioner=v1.fixed_size_partitioner(2))
        session.run(v1.global_variables_initializer())
        v1.train.Saver(write_version=version).save(session, str(tmp_path / "sliced.ckpt"), write_meta_graph=False)
    with pytest.raises(WeightsError, match="a variable is stored in slices: save it without a partitioner"):
        open_checkpoint(tmp_path / "sliced.ckpt")


@pytest.mark.parametrize("version", [1, 2])
def test_flipped_and_missing_bytes_give_the_right_values_or_a_sentence(version, tmp_path, save_slim, arrays):
    """The checksums say which: nothing wrong is ever read, nothing but a WeightsError raised."""
    prefix = save_slim(tmp_path / "vgg_16.ckpt", arrays, version)
    file = Path(f"{prefix}{'' if version == 1 else '.index'}")
    whole, random, refused = file.read_bytes(), np.random.default_rng(version), 0
    for number in range(400):
        content = bytearray(whole)
        for place in random.integers(0, len(content), 1 + number % 4):
            content[place] ^= random.integers(1, 256)
        file.write_bytes(content if number % 2 else content[:random.integers(0, len(content))] + whole[-48:])
        try:
            opened = open_checkpoint(prefix)
            for name in opened.tensors:
                assert opened.read(name).tobytes() == arrays[name].tobytes()
        except WeightsError:
            refused += 1
    assert refused > 300


@pytest.mark.parametrize("version", [1, 2])
def test_changed_bytes_under_right_checksums_give_a_tensor_or_a_sentence(version, tmp_path, save_slim, arrays):
    """What a person could write on purpose: no checksum stands in front of the readers of messages."""
    prefix = save_slim(tmp_path / "vgg_16.ckpt", {**arrays, **TYPES}, version)
    file = Path(f"{prefix}{'' if version == 1 else '.index'}")
    whole = {key: bytes(value) for key, value in Table(file)}
    random, refused = np.random.default_rng(version), 0
    for _ in range(250):
        items = {}
        for key, value in whole.items():
            content = bytearray(value)
            for place in random.integers(0, max(1, len(content)), random.integers(0, 3)):
                content[place:place + 1] = random.integers(0, 256, random.integers(0, 3)).astype(np.uint8).tobytes()
            items[key] = bytes(content)
        write_table(file, items)
        try:
            opened = open_checkpoint(prefix)
        except WeightsError:
            refused += 1
            continue
        for name in opened.tensors:
            try:
                assert opened.read(name).shape == opened.tensors[name].shape
            except WeightsError:
                refused += 1
    assert refused > 120


def test_a_hostile_index_takes_no_memory_and_no_time(tmp_path, arrays):
    write_checkpoint(tmp_path / "a.ckpt", arrays)
    axes = b"".join(put_bytes(2, put_number(1, 2**20)) for _ in range(3))
    huge = put_number(1, 1) + put_bytes(2, axes) + put_number(5, 2**62)
    negative = put_bytes(2, put_bytes(2, put_number(1, 2**64 - 1)))
    for entry, reason in ((huge, "it ends at 4,611,686,018,427,387,904"), (put_number(1, 99), "TensorFlow's type 99"),
                          (put_number(1, 1) + put_bytes(2, axes), "0 bytes for a tensor of"),
                          (put_number(1, 1) + put_number(3, 7) + put_number(5, 4), "a tensor in another"),
                          (put_number(1, 1) + negative, "impossible shape")):
        write_table(tmp_path / "a.ckpt.index", {b"": HEADER, b"weights": entry})
        with pytest.raises(WeightsError, match=reason):
            open_checkpoint(tmp_path / "a.ckpt").read("weights")


def test_a_name_that_is_longer_than_any_is_refused(tmp_path, arrays):
    write_checkpoint(tmp_path / "a.ckpt", arrays)
    write_table(tmp_path / "a.ckpt.index", {b"": HEADER, b"n" * 100_000: put_number(1, 1)})
    with pytest.raises(WeightsError, match="an entry is longer than its block"):
        open_checkpoint(tmp_path / "a.ckpt")


def test_a_checkpoint_is_read_and_written_without_tensorflow(tmp_path, save_slim, arrays):
    prefix = save_slim(tmp_path / "old.ckpt", arrays, 1)
    code = ("import sys; from pathlib import Path; from voc_cls.weights.slim import open_checkpoint, write_checkpoint\n"
            "old, new = map(Path, sys.argv[1:]); opened = open_checkpoint(old)\n"
            "write_checkpoint(new, {name: opened.read(name) for name in opened.tensors})\n"
            "assert not {'tensorflow', 'keras', 'h5py', 'onnx'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code, prefix, tmp_path / "new.ckpt"], check=True)
    assert digest(tmp_path / "new.ckpt") == digest(prefix)


def test_a_checkpoint_of_version_2_takes_the_place_of_one_of_version_1(tmp_path, save_slim, arrays):
    save_slim(tmp_path / "a.ckpt", arrays, 1)
    write_checkpoint(tmp_path / "a.ckpt", {"other": np.ones(3, np.float32)})
    assert sorted(file.name for file in tmp_path.iterdir() if not file.name.endswith(".meta")) == [
        "a.ckpt.data-00000-of-00001", "a.ckpt.index"]
