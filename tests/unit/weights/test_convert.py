"""Weights from one format into another."""

import ml_dtypes
import numpy as np
import pytest
from rich.console import Console

from voc_cls.errors import WeightsError
from voc_cls.weights.convert import plan_conversion
from voc_cls.weights.diff import Status
from voc_cls.weights.formats import tf_checkpoint
from voc_cls.weights.formats.tf_checkpoint import write as write_checkpoint
from voc_cls.weights.load import load_weights_file

FORMATS = ("a.npz", "a.npy", "a.h5", "a.weights.h5", "a.safetensors")


@pytest.fixture
def vgg(tmp_path, small_weights):
    """A checkpoint of VGG-16, some of whose values are easily changed: -0, NaNs with a payload, denormals."""
    values = small_weights("vgg_16")
    special = np.array([0x80000000, 0x7FC01234, 0xFFC00001, 0x00000001, 0xFF800000, 1, 2, 3], np.uint32)
    values["vgg_16/conv1/conv1_1/biases"] = special.view(np.float32)
    write_checkpoint(tmp_path / "vgg_16.ckpt", values)
    return tmp_path / "vgg_16.ckpt"


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("name", FORMATS)
def test_there_and_back_again_gives_the_same_bytes(name, tmp_path, vgg):
    plan_conversion([vgg], tmp_path / "out" / name).write()
    assert [file.name for file in (tmp_path / "out").iterdir()] == [name]
    plan_conversion([tmp_path / "out" / name], tmp_path / "back/vgg_16.ckpt").write()
    assert files(tmp_path / "back") == {file.name: file.read_bytes() for file in tmp_path.glob("vgg_16.ckpt.*")}


@pytest.mark.parametrize("net", ["resnet_v1_50", "resnet_v2_50"])
@pytest.mark.parametrize("name", ["a.h5", "a.safetensors"])
def test_resnets_keep_their_statistics(net, name, tmp_path, small_weights):
    write_checkpoint(tmp_path / "net.ckpt", small_weights(net))
    planned = plan_conversion([tmp_path / "net.ckpt"], tmp_path / name)
    planned.check()
    planned.write()
    assert load_weights_file(tmp_path / name).digest() == load_weights_file(tmp_path / "net.ckpt").digest()


def test_a_network_that_the_other_format_cannot_name_is_told(tmp_path, small_weights):
    write_checkpoint(tmp_path / "net.ckpt", small_weights("resnet_v2_50"))
    planned = plan_conversion([tmp_path / "net.ckpt"], tmp_path / "a.vgg.npy", to="vgg.npy")
    with pytest.raises(WeightsError, match=r"net\.ckpt has nothing that an? .+ has a name for: say with `net`"):
        planned.check()


def test_what_keeps_the_training_is_left_out_and_what_has_no_name_is_lost_only_when_that_is_meant(tmp_path, vgg):
    opened = tf_checkpoint.read(vgg)
    values = {name: opened.read(name) for name in opened.tensors if "fc8" not in name}
    values |= {"global_step": np.array(7), "vgg_16/mean_rgb": np.zeros(3, np.float32),
               "vgg_16/attention/weights": np.ones((1, 1, 4, 20), np.float32)}
    write_checkpoint(tmp_path / "mine.ckpt", values)
    planned = plan_conversion([tmp_path / "mine.ckpt"], tmp_path / "a.h5")
    assert {entry.name for entry in planned.diff.of(Status.NOT_WEIGHTS)} == {"global_step", "vgg_16/mean_rgb"}
    assert {entry.name for entry in planned.diff.of(Status.ABSENT)} == {"vgg_16/fc8/weights", "vgg_16/fc8/biases"}
    with pytest.raises(WeightsError, match=r"^a\.h5 cannot have vgg_16/attention/weights: a Keras HDF5 file has no"):
        planned.check()
    planned.check(partial=True)
    planned.write()
    assert "vgg_16/fc7/weights" in load_weights_file(tmp_path / "a.h5").tensors


@pytest.mark.parametrize("name", FORMATS)
def test_a_new_head_keeps_its_name(name, tmp_path, vgg):
    opened = tf_checkpoint.read(vgg)
    values = {name.replace("fc8", "m_fc8"): opened.read(name) for name in opened.tensors}
    write_checkpoint(tmp_path / "mine.ckpt", values)
    planned = plan_conversion([tmp_path / "mine.ckpt"], tmp_path / name)
    planned.check()
    planned.write()
    assert load_weights_file(tmp_path / name).digest() == load_weights_file(tmp_path / "mine.ckpt").digest()


def test_a_file_with_the_convolutions_and_one_with_the_rest_make_a_whole(tmp_path, vgg):
    plan_conversion([vgg], tmp_path / "whole.npz").write()
    with np.load(tmp_path / "whole.npz") as values:
        for part in ("conv", "fc"):
            np.savez(tmp_path / f"{part}.npz", **{name: value for name, value in values.items() if part in name})
    planned = plan_conversion([tmp_path / "conv.npz", tmp_path / "fc.npz"], tmp_path / "new.ckpt")
    assert planned.diff.file == "conv.npz + fc.npz"
    planned.write()
    assert load_weights_file(tmp_path / "new.ckpt").digest() == load_weights_file(vgg).digest()
    with pytest.raises(WeightsError, match=r"conv\.npz and .*whole\.npz both have vgg_16/conv1/conv1_1/biases: give"):
        plan_conversion([tmp_path / "conv.npz", tmp_path / "whole.npz"], tmp_path / "twice.ckpt")


def test_files_of_two_networks_are_not_mixed(tmp_path, vgg, small_weights):
    write_checkpoint(tmp_path / "other.ckpt", small_weights("resnet_v1_50"))
    with pytest.raises(WeightsError, match=r"vgg_16\.ckpt is of vgg_16 and .*other\.ckpt is of resnet_v1_50: convert"):
        plan_conversion([vgg, tmp_path / "other.ckpt"], tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npz", "a.ckpt"])
def test_a_file_that_exists_is_replaced_only_when_that_is_meant(name, tmp_path, vgg):
    plan_conversion([vgg], tmp_path / name).write()
    with pytest.raises(WeightsError, match=rf"{name}.* exists already: choose another name, or replace it with `over"):
        plan_conversion([vgg], tmp_path / name)
    write_checkpoint(tmp_path / "small.ckpt", {"vgg_16/conv1/conv1_1/biases": np.ones(8, np.float32)})
    plan_conversion([tmp_path / "small.ckpt"], tmp_path / name, overwrite=True).write()
    assert list(load_weights_file(tmp_path / name).tensors) == ["vgg_16/conv1/conv1_1/biases"]


@pytest.mark.parametrize("name", [*FORMATS, "a.ckpt"])
def test_a_tensor_that_cannot_be_read_leaves_the_old_file_and_nothing_else(name, tmp_path, vgg):
    plan_conversion([vgg], tmp_path / "out" / name).write()
    before = files(tmp_path / "out")
    data = tmp_path / "vgg_16.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    with pytest.raises(WeightsError, match=r"the tensor vgg_16/fc8/weights cannot be read "):
        plan_conversion([vgg], tmp_path / "out" / name, overwrite=True).write()
    assert files(tmp_path / "out") == before


def test_the_format_can_be_named_where_the_suffix_does_not(tmp_path, vgg):
    plan_conversion([vgg], tmp_path / "weights.bin", to="safetensors").write()
    assert load_weights_file(tmp_path / "weights.bin").format.startswith("safetensors")


def test_a_network_that_the_other_library_lacks_keeps_tf_slims_names(tmp_path, small_weights):
    write_checkpoint(tmp_path / "net.ckpt", small_weights("inception_v1"))
    planned = plan_conversion([tmp_path / "net.ckpt"], tmp_path / "a.safetensors")
    assert planned.notes == ("torchvision has no names for inception_v1: TF-Slim's are written, and its layout",)
    planned.write()
    assert load_weights_file(tmp_path / "a.safetensors").digest() == load_weights_file(tmp_path / "net.ckpt").digest()


def test_the_diff_shows_what_is_converted_absent_and_of_another_shape(tmp_path, vgg):
    opened = tf_checkpoint.read(vgg)
    values = {name: opened.read(name) for name in opened.tensors if "conv5" not in name}
    write_checkpoint(tmp_path / "part.ckpt", values)
    console = Console(width=110)
    with console.capture() as capture:
        console.print(plan_conversion([tmp_path / "part.ckpt"], tmp_path / "a.npz").diff)
    shown = capture.get()
    assert shown.startswith("part.ckpt → a.npz (a NumPy .npz archive)")
    assert "+  conv5 (6)" in shown
    assert "not in the file" in shown
    assert "shape differs: [3, 3, 3, 8] in the file, [3, 3, 3, 64] wanted" in shown


def test_progress_tells_every_byte(tmp_path, vgg):
    told = []
    planned = plan_conversion([vgg], tmp_path / "a.npz")
    planned.write(told.append)
    assert sum(told) == planned.nbytes
    assert len(told) == 32


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.h5"])
def test_a_type_that_the_new_format_lacks_is_refused_before_anything_is_written(name, tmp_path):
    write_checkpoint(tmp_path / "a.ckpt", {"vgg_16/conv1/conv1_1/biases": np.zeros(64, ml_dtypes.bfloat16)})
    with pytest.raises(WeightsError, match=r"conv1_1/biases is of type bfloat16, .* cannot hold: choose \.ckpt or "):
        plan_conversion([tmp_path / "a.ckpt"], tmp_path / name).check()
    plan_conversion([tmp_path / "a.ckpt"], tmp_path / "a.safetensors").check()


def test_the_own_network_of_the_lecture_has_a_dialect_that_is_written_and_read(tmp_path, vgg):
    """Lecture A, without TF-Slim: the slim names in one dictionary, then those of a network written by hand."""
    plan_conversion([vgg], tmp_path / "vgg_16.npy").write()
    slim = np.load(tmp_path / "vgg_16.npy", allow_pickle=True).item()
    assert "vgg_16/conv1/conv1_1/weights:0" in slim
    planned = plan_conversion([tmp_path / "vgg_16.npy"], tmp_path / "vgg16.npy", to="vgg.npy")
    planned.check()
    planned.write()
    own = np.load(tmp_path / "vgg16.npy", allow_pickle=True).item()
    assert {"vgg16/conv1_1/kernel:0", "vgg16/conv5_3/bias:0", "vgg16/fc6/kernel:0", "vgg16/fc8/bias:0"} <= own.keys()
    assert len(own) == len(slim)
    np.testing.assert_array_equal(own["vgg16/fc6/kernel:0"], slim["vgg_16/fc6/weights:0"])
    plan_conversion([tmp_path / "vgg16.npy"], tmp_path / "back/vgg_16.ckpt").write()
    assert files(tmp_path / "back") == {file.name: file.read_bytes() for file in tmp_path.glob("vgg_16.ckpt.*")}
    assert load_weights_file(tmp_path / "vgg16.npy").net == "vgg_16"
