"""TF-Slim checkpoints, read and written."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from voc_cls.errors import WeightsError
from voc_cls.weights.slim import digest, open_checkpoint, write_checkpoint


@pytest.mark.parametrize("version", [1, 2])
def test_a_checkpoint_of_either_format_reads_as_it_was_written(version, tmp_path, save_slim, arrays):
    opened = open_checkpoint(save_slim(tmp_path / "vgg_16.ckpt", arrays, version))
    assert opened.format == f"v{version}"
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


@pytest.mark.parametrize(("name", "kind"), [("vgg.h5", "Keras HDF5"), ("vgg.npz", "NumPy"), ("vgg.PTH", "PyTorch"),
                                            ("vgg.tar.gz", "an archive")])
def test_a_file_of_another_format_is_named_with_the_formats_that_are_read(name, kind, tmp_path):
    (tmp_path / name).write_bytes(b"\x89HDF\r\n" * 100)
    with pytest.raises(WeightsError, match=f"{name} is {kind}, which is not read yet; TF-Slim checkpoints are read: "):
        open_checkpoint(tmp_path / name)


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
