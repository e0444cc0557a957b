"""NumPy's .npy with a dictionary in it, read and written."""

import os
import pickle

import numpy as np
import pytest

from voc_cls.errors import WeightsError
from voc_cls.weights.npy_file import open_npy, write_npy
from voc_cls.weights.tensors import Outgoing, TensorInfo

KERNEL = np.linspace(-1, 1, 54, dtype=np.float32).reshape(3, 3, 3, 2)
BIAS = np.array([0.5, -0.5], np.float32)


class Wish:
    """Is pickled as a call of os.system."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def save(path, content):
    """As people save dictionaries: numpy.save makes an array of objects of it."""
    np.save(path, content, allow_pickle=True)
    return path


def test_a_dictionary_of_tf_slims_variables_is_read_without_the_output_in_its_names(tmp_path):
    content = {"vgg_16/conv1/conv1_1/weights:0": KERNEL, "global_step:0": np.int64(7)}
    opened = open_npy(save(tmp_path / "a.npy", content))
    assert opened.tensors == {"global_step": TensorInfo((), "int64"),
                              "vgg_16/conv1/conv1_1/weights": TensorInfo((3, 3, 3, 2), "float32")}
    np.testing.assert_array_equal(opened.read("vgg_16/conv1/conv1_1/weights"), KERNEL)


@pytest.mark.parametrize(("content", "names"), [
    ({"conv1_1": [KERNEL, BIAS]}, ["conv1_1/0", "conv1_1/1"]),
    ({"conv1_1": {"weights": KERNEL, "biases": BIAS}}, ["conv1_1/biases", "conv1_1/weights"]),
    ({b"conv1_1": (KERNEL, BIAS)}, ["conv1_1/0", "conv1_1/1"]),
])
def test_layers_with_weights_and_biases_are_read(content, names, tmp_path):
    opened = open_npy(save(tmp_path / "vgg16.npy", content))
    assert list(opened.tensors) == names
    assert {opened.read(name).tobytes() for name in names} == {KERNEL.tobytes(), BIAS.tobytes()}


def test_a_file_of_python_2_is_read(tmp_path):
    header = b"\x93NUMPY\x01\x00\x46\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(69) + b"\n"
    content = pickle.dumps(np.array({"conv1_1": [BIAS]}, dtype=object), 2).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "a.npy").write_bytes(header + content)
    np.testing.assert_array_equal(open_npy(tmp_path / "a.npy").read("conv1_1/0"), BIAS)


def test_numpy_reads_what_is_written(tmp_path):
    arrays = {"vgg_16/conv1/weights": KERNEL, "turned": KERNEL.transpose(3, 2, 0, 1)[:, ::-1], "step": np.array(3),
              "empty": np.zeros((0, 2), np.float16)}
    write_npy(tmp_path / "a.npy", [Outgoing(name, TensorInfo(array.shape, array.dtype.name), lambda array=array: array)
                                   for name, array in arrays.items()])
    found = np.load(tmp_path / "a.npy", allow_pickle=True).item()
    assert list(found) == [f"{name}:0" for name in arrays]
    opened = open_npy(tmp_path / "a.npy")
    for name, array in arrays.items():
        for read in (found[f"{name}:0"], opened.read(name)):
            np.testing.assert_array_equal(read, array)
            assert read.dtype == array.dtype


@pytest.mark.parametrize(("content", "reason"), [
    ({"weights": Wish()}, r"holds the wish to run posix\.system; .* source that you trust"),
    ({"weights": "text"}, "holds a str as weights, where an array of numbers belongs"),
    ({"weights": np.array(["text"])}, "holds an array of <U4 as weights"),
    ({"a": {"b": {"c": {"d": BIAS}}}}, "holds a dict as a/b/c, where an array"),
    ([BIAS, BIAS], "does not hold a dictionary of name to array"),
])
def test_what_is_no_dictionary_of_arrays_is_refused_and_nothing_is_run(content, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=reason):
        open_npy(save(tmp_path / "a.npy", np.array(content, dtype=object) if isinstance(content, dict) else
                      np.array([*content, None], dtype=object)))
    assert [file.name for file in tmp_path.iterdir()] == ["a.npy"]


def test_a_plain_array_and_a_damaged_file_are_refused(tmp_path):
    np.save(tmp_path / "plain.npy", KERNEL)
    with pytest.raises(WeightsError, match=r"plain\.npy is one array of \[3, 3, 3, 2\], where weights are a dic"):
        open_npy(tmp_path / "plain.npy")
    whole = save(tmp_path / "a.npy", {"weights": KERNEL}).read_bytes()
    for length in (0, 5, 20, 100, len(whole) - 20):
        (tmp_path / "a.npy").write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"a\.npy cannot be read as .*fetch it again"):
            open_npy(tmp_path / "a.npy")
