"""Weights of any format under TF-Slim's names."""

import gzip
import io
import zipfile

import numpy as np
import pytest

from tests.onnx_files import save_initializers
from tests.torch_files import save_state_dict
from voc_cls.errors import UsageError, WeightsError
from voc_cls.weights.convert import plan_conversion
from voc_cls.weights.formats import arrays, format_to_write
from voc_cls.weights.formats.tf_checkpoint import write as write_checkpoint
from voc_cls.weights.load import load_weights_file

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

NORMALISATIONS = {"a.npz": "auto", "a.npy": "auto", "a.h5": "auto", "a.weights.h5": "auto", "a.pth": "torch",
                  "a.safetensors": "torch", "a.onnx": "torch", "a.ckpt": "auto"}


def convert(source, target):
    """Writes `target`; .pth and .onnx, which are not written, as torch.save and torch.onnx.export do."""
    if target.suffix in (".pth", ".onnx"):
        plan_conversion([source], target.with_name("torch.safetensors")).write()
        file = arrays.read_safetensors(target.with_name("torch.safetensors"))
        save = save_state_dict if target.suffix == ".pth" else save_initializers
        return save(target, {name: file.read(name) for name in file.tensors})
    plan_conversion([source], target).write()
    return target


@pytest.fixture
def vgg(tmp_path, small_weights):
    """A checkpoint of VGG-16's variables, and its values."""
    values = small_weights("vgg_16")
    write_checkpoint(tmp_path / "vgg_16.ckpt", values)
    return tmp_path / "vgg_16.ckpt", values


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_the_same_weights_have_the_same_names_values_and_digest_in_every_format(name, tmp_path, vgg):
    checkpoint, values = vgg
    opened = load_weights_file(convert(checkpoint, tmp_path / name))
    assert opened.net == "vgg_16"
    assert opened.normalisation == NORMALISATIONS[name]
    assert opened.shapes == {name: value.shape for name, value in values.items()}
    for variable, value in values.items():
        np.testing.assert_array_equal(opened.read(variable), value)
    assert opened.digest() == load_weights_file(checkpoint).digest()


@pytest.mark.parametrize("net", ["vgg_19", "resnet_v1_50", "resnet_v1_101", "resnet_v2_50", "inception_v1"])
@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.safetensors"])
def test_every_network_is_recognised_again(net, name, tmp_path, small_weights):
    write_checkpoint(tmp_path / "net.ckpt", small_weights(net))
    opened = load_weights_file(convert(tmp_path / "net.ckpt", tmp_path / name))
    assert opened.net == net
    assert opened.digest() == load_weights_file(tmp_path / "net.ckpt").digest()


@pytest.mark.parametrize("average", ["", "/ExponentialMovingAverage"])
@pytest.mark.parametrize("classifier", ["FC", "fully_connected"])
@pytest.mark.parametrize(("net", "filters"), [("nasnet_mobile", 11), ("nasnet_large", 42)])
def test_nasnets_checkpoints_are_read_however_they_spell_its_names(average, classifier, net, filters, tmp_path):
    ours = {"cell_stem_0/1x1/weights": np.ones((1, 1, 32, filters), np.float32),
            "conv0_bn/moving_mean": np.full(32, 2, np.float32), "final_layer/FC/biases": np.full(3, 3, np.float32)}
    write_checkpoint(tmp_path / "model.ckpt", {"global_step": np.array(7), **{
        name.replace("FC", classifier) + average: value for name, value in ours.items()}})
    opened = load_weights_file(tmp_path / "model.ckpt")
    assert opened.net == net
    assert opened.tensors.keys() - {"global_step"} == ours.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(opened.read(name), value)


def test_an_average_beside_its_variable_is_left_aside(tmp_path):
    name = "vgg_16/conv1/conv1_1/biases"
    write_checkpoint(tmp_path / "a.ckpt", {name: np.ones(2), f"{name}/ExponentialMovingAverage": np.zeros(2)})
    np.testing.assert_array_equal(load_weights_file(tmp_path / "a.ckpt").read(name), np.ones(2))


@pytest.mark.parametrize(("filters", "wanted", "net"), [
    (512, None, "mobilenet_v1_0.5_160"), (512, "mobilenet_v1_0.5_224", "mobilenet_v1_0.5_224"),
    (512, "mobilenet_v1_0.50_224", "mobilenet_v1_0.5_224"), (256, "vgg_16", "mobilenet_v1_0.25_128"),
])
@pytest.mark.parametrize("name", ["MobilenetV1/Conv2d_13_pointwise/weights", "conv_pw_13/kernel"])
def test_a_mobilenets_width_is_seen_in_its_shapes(filters, wanted, net, name, tmp_path):
    np.savez(tmp_path / "mobilenet.npz", **{name: np.ones((1, 1, 8, filters), np.float32)})
    assert load_weights_file(tmp_path / "mobilenet.npz", wanted).net == net
    with pytest.raises(WeightsError, match=r"mobilenet\.npz: it has the weights of mobilenet_v1_.*, not of .*_0\.3"):
        load_weights_file(tmp_path / "mobilenet.npz", "mobilenet_v1_0.3_224")


def test_the_lectures_npz_gives_tf_slims_shapes(tmp_path):
    dense = np.arange(7 * 7 * 512 * 2, dtype=np.float32).reshape(25088, 2)
    np.savez(tmp_path / "fc.npz", fc6_W=dense, fc6_b=np.zeros(2, np.float32), fc8_W=np.ones((2, 10), np.float32))
    opened = load_weights_file(tmp_path / "fc.npz", "vgg_19")
    assert opened.net == "vgg_19"
    assert opened.shapes == {"vgg_19/fc6/weights": (7, 7, 512, 2), "vgg_19/fc6/biases": (2,),
                             "vgg_19/fc8/weights": (1, 1, 2, 10)}
    np.testing.assert_array_equal(opened.read("vgg_19/fc6/weights")[1, 2, 3], dense[(1 * 7 + 2) * 512 + 3])
    assert load_weights_file(tmp_path / "fc.npz").net == "vgg_16"  # where nothing says more


def test_the_caffe_layout_of_vgg16_npy_is_blue_first(tmp_path):
    kernel = np.arange(3 * 3 * 3 * 2, dtype=np.float32).reshape(3, 3, 3, 2)
    np.save(tmp_path / "vgg16.npy", np.array({"conv1_1": [kernel, np.zeros(2, np.float32)]}, dtype=object))
    np.testing.assert_array_equal(load_weights_file(tmp_path / "vgg16.npy").read("vgg_16/conv1/conv1_1/weights"),
                                  kernel[:, :, ::-1])


def test_a_file_of_one_network_is_not_taken_for_a_part_of_another(tmp_path, small_weights):
    write_checkpoint(tmp_path / "vgg_19.ckpt", small_weights("vgg_19"))
    npz = convert(tmp_path / "vgg_19.ckpt", tmp_path / "vgg_19.npz")
    assert load_weights_file(npz, "vgg_16").net == "vgg_19"
    assert load_weights_file(npz, "vgg_19").net == "vgg_19"


def test_names_of_no_known_network_stay_as_they_are(tmp_path):
    np.savez(tmp_path / "own.npz", kernel=np.ones(3, np.float32))
    opened = load_weights_file(tmp_path / "own.npz")
    assert (opened.net, opened.shapes) == (None, {"kernel": (3,)})


def test_what_has_no_counterpart_is_kept_apart(tmp_path, vgg):
    convert(vgg[0], tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as values:
        np.savez(tmp_path / "more.npz", mystery=np.ones(2), **values)
    opened = load_weights_file(tmp_path / "more.npz")
    assert dict(opened.unnamed).keys() == {"mystery"}
    assert opened.shapes["mystery"] == (2,)
    assert opened.read("mystery").tolist() == [1, 1]
    assert opened.digest() == load_weights_file(vgg[0]).digest()


@pytest.mark.parametrize(("written", "called", "message"), [
    ("a.pth", "b.npz", "b.npz is not a NumPy .npz archive but a PyTorch file: call it b.pth"),
    ("a.npz", "b.pth", "b.pth is not a PyTorch file but a NumPy .npz archive: call it b.npz"),
    ("a.h5", "b.ckpt", "b.ckpt is not a TF-Slim checkpoint but a Keras HDF5 file: call it b.h5"),
    ("a.safetensors", "b.onnx", "b.onnx is not an ONNX model but a safetensors file: call it b.safetensors"),
    ("a.npy", "b.h5", "b.h5 is not a Keras HDF5 file but a NumPy .npy file: call it b.npy"),
    ("a.onnx", "b.safetensors", "b.safetensors is not a safetensors file, or a damaged one: fetch it again"),
])
def test_a_file_that_its_name_does_not_fit_is_told_for_what_it_is(written, called, message, tmp_path, vgg):
    convert(vgg[0], tmp_path / written).rename(tmp_path / called)
    with pytest.raises(WeightsError) as told:
        load_weights_file(tmp_path / called)
    assert str(told.value) == f"{tmp_path}/{message}"


def test_a_name_that_claims_nothing_is_enough(tmp_path, vgg):
    for name in ("a.npz", "a.h5", "a.pth", "a.safetensors", "a.npy"):
        convert(vgg[0], tmp_path / name).rename(tmp_path / "weights.bin")
        assert load_weights_file(tmp_path / "weights.bin").digest() == load_weights_file(vgg[0]).digest()


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.npz", zipped(a="b")[:-10], "is only the beginning of a ZIP archive such as"),
    ("a.pth", zipped(readme="b"), "is a ZIP archive without weights that are known here"),
    ("a.ckpt", gzip.compress(b"tar"), "is a gzip archive: unpack it and give the file in it"),
    ("a.h5", b"<!DOCTYPE html><html>", "is a web page, probably the error"),
    ("a.onnx", b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS"),
    ("a.h5", b"", "is not a Keras HDF5 file, or a damaged one: fetch it again"),
    ("a.npy", b"\0" * 100, "is not a NumPy .npy file, or a damaged one"),
    ("a.ckpt", b"\0" * 100, "is not a checkpoint, or only the beginning of one"),
    ("a.bin", b"what is this", "is not a checkpoint, or only the beginning of one"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_no_weights_is_told_for_what_it_is(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError) as told:
        load_weights_file(tmp_path / name)
    assert f"{name} {message}" in str(told.value)


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.h5", "a.pth", "a.safetensors", "a.onnx"])
def test_half_a_download_is_refused(name, tmp_path, vgg):
    content = convert(vgg[0], tmp_path / name).read_bytes()
    for part in (0.02, 0.5, 0.95):
        (tmp_path / name).write_bytes(content[:int(len(content) * part)])
        with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
            load_weights_file(tmp_path / name).digest()


def test_a_format_that_is_not_known_lists_those_that_are(tmp_path):
    with pytest.raises(UsageError, match=r"a\.caffemodel: no format of weights .* known are \.ckpt, \.npz, \.npy"):
        format_to_write(tmp_path / "a.caffemodel")
    with pytest.raises(UsageError, match="`to` mat: no format of weights"):
        format_to_write(tmp_path / "a.npz", "mat")
    for name in ("a.pth", "a.pt"):
        with pytest.raises(UsageError, match=r"a\.pth?: a PyTorch file is read but not written; write \.safetensors"):
            format_to_write(tmp_path / name)
    with pytest.raises(UsageError, match=r"a\.onnx: an ONNX model is read but not written; voc-export --format onnx"):
        format_to_write(tmp_path / "a.onnx")
