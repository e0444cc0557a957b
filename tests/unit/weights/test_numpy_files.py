"""NumPy's .npz, and its .npy with a dictionary in it, read and written."""

import os
import pickle
import zipfile

import numpy as np
import pytest

from voc_cls.errors import WeightsError
from voc_cls.weights.formats import NPY, NPZ
from voc_cls.weights.tensors import TensorInfo

KERNEL = np.linspace(-1, 1, 54, dtype=np.float32).reshape(3, 3, 3, 2)
BIAS = np.array([0.5, -0.5], np.float32)
ARRAYS = {
    "conv1_1_W": KERNEL,
    "big": np.arange(4, dtype=">f8"),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
    "vgg_16/conv1/biases": np.zeros(0, np.float32),
    "step": np.array(6000, np.int64),
    "turned": KERNEL.transpose(3, 2, 0, 1)[:, ::-1],
}


class Wish:
    """Is pickled as a call of os.system."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def same(opened, arrays):
    assert list(opened.tensors) == sorted(arrays)
    for name, array in arrays.items():
        assert opened.tensors[name] == TensorInfo(array.shape, array.dtype.name)
        np.testing.assert_array_equal(opened.read(name), array)
        assert opened.read(name).dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves_is_read(save, tmp_path):
    save(tmp_path / "a.npz", **ARRAYS)
    same(NPZ.read(tmp_path / "a.npz"), ARRAYS)


def test_numpy_reads_what_is_written_and_the_same_weights_make_the_same_file(tmp_path):
    NPZ.write(tmp_path / "a.npz", ARRAYS)
    NPZ.write(tmp_path / "b.npz", ARRAYS)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert list(found) == list(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found[name], array)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(("content", "reason"), [
    ({"weights": np.array([1], object)}, "holds an array of object as weights"),
    ({"weights": np.array(["abc"])}, "holds an array of <U3 as weights"),
])
def test_an_archive_of_other_things_than_numbers_is_refused(content, reason, tmp_path):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(WeightsError, match=rf"a\.npz .*{reason}"):
        NPZ.read(tmp_path / "a.npz")


def header(shape, descr="<f4"):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(("name", "content"), [
    ("weights.npy", header("(3,)") + b"\0" * 8), ("weights.npy", header(f"({10**14},)")),
    ("weights.npy", header("(-1, -1)") + b"\0" * 4), ("weights.npy", b"\x93NUMPY\x01\x00\xff\xff{"),
    ("weights.npy", header("(1,)", "|O") + b"\x80\x04cos\nsystem\n."), ("../../evil.sh", b"rm")])
def test_a_bad_member_is_one_sentence(name, content, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(name, content)
    with pytest.raises(WeightsError, match=r"a\.npz.* (cannot be read|holds an array of object)") as caught:
        NPZ.read(tmp_path / "a.npz").read("weights")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_byte_is_noticed(save, tmp_path):
    save(tmp_path / "a.npz", values=np.random.default_rng(0).standard_normal(3000))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.npz: the tensor values cannot be read"):
        NPZ.read(tmp_path / "a.npz").read("values")


def save_npy(path, content):
    """As people save dictionaries: numpy.save makes an array of objects of it."""
    np.save(path, content, allow_pickle=True)
    return path


def test_a_dictionary_of_tf_slims_variables_is_read_without_the_output_in_its_names(tmp_path):
    content = {"vgg_16/conv1/conv1_1/weights:0": KERNEL, "global_step:0": np.int64(7)}
    same(NPY.read(save_npy(tmp_path / "a.npy", content)),
         {"global_step": np.array(7), "vgg_16/conv1/conv1_1/weights": KERNEL})


@pytest.mark.parametrize(("content", "names"), [
    ({"conv1_1": [KERNEL, BIAS]}, ["conv1_1/0", "conv1_1/1"]),
    ({"conv1_1": {"weights": KERNEL, "biases": BIAS}}, ["conv1_1/biases", "conv1_1/weights"]),
    ({b"conv1_1": (KERNEL, BIAS)}, ["conv1_1/0", "conv1_1/1"]),
])
def test_layers_with_weights_and_biases_are_read(content, names, tmp_path):
    opened = NPY.read(save_npy(tmp_path / "vgg16.npy", content))
    assert list(opened.tensors) == names
    assert {opened.read(name).tobytes() for name in names} == {KERNEL.tobytes(), BIAS.tobytes()}


def test_a_file_of_python_2_is_read(tmp_path):
    text = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(69) + b"\n"
    content = pickle.dumps(np.array({"conv1_1": [BIAS]}, dtype=object), 2).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00\x46\x00" + text + content)
    np.testing.assert_array_equal(NPY.read(tmp_path / "a.npy").read("conv1_1/0"), BIAS)


def test_numpy_reads_the_dictionary_that_is_written(tmp_path):
    NPY.write(tmp_path / "a.npy", ARRAYS)
    found = np.load(tmp_path / "a.npy", allow_pickle=True).item()
    assert list(found) == [f"{name}:0" for name in ARRAYS]
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[f"{name}:0"], array)
    same(NPY.read(tmp_path / "a.npy"), ARRAYS)


@pytest.mark.parametrize(("content", "reason"), [
    ({"weights": Wish()}, r"holds the wish to run posix\.system; .* source that you trust"),
    ({"weights": "text"}, "holds a str as weights, where an array of numbers belongs"),
    ({"weights": np.array(["text"])}, "holds an array of <U4 as weights"),
    ({"a": {"b": {"c": {"d": BIAS}}}}, "holds a dict as a/b/c, where an array"),
    ([BIAS, BIAS, None], "does not hold a dictionary of name to array"),
])
def test_what_is_not_a_dictionary_of_arrays_is_refused_and_nothing_is_run(content, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=reason):
        NPY.read(save_npy(tmp_path / "a.npy", np.array(content, dtype=object)))
    assert [file.name for file in tmp_path.iterdir()] == ["a.npy"]


def test_a_plain_array_and_a_damaged_file_are_refused(tmp_path):
    np.save(tmp_path / "plain.npy", KERNEL)
    with pytest.raises(WeightsError, match=r"plain\.npy is one array of \[3, 3, 3, 2\], where weights are a dic"):
        NPY.read(tmp_path / "plain.npy")
    whole = save_npy(tmp_path / "a.npy", {"weights": KERNEL}).read_bytes()
    for length in (0, 5, 20, 100, len(whole) - 20):
        (tmp_path / "a.npy").write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"a\.npy cannot be read.*fetch it again"):
            NPY.read(tmp_path / "a.npy")
