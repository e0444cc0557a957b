"""NumPy's .npz, read and written."""

import shutil
import zipfile
import zlib

import numpy as np
import pytest

from voc_cls.errors import WeightsError
from voc_cls.weights.npz_file import open_npz, write_npz
from voc_cls.weights.tensors import Outgoing, TensorInfo

ARRAYS = {
    "conv1_1_W": np.linspace(-1, 1, 54, dtype=np.float32).reshape(3, 3, 3, 2),
    "big": np.arange(4, dtype=">f8"),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
    "vgg_16/conv1/biases": np.zeros(0, np.float32),
    "step": np.array(6000, np.int64),
}


def outgoing(arrays):
    return [Outgoing(name, TensorInfo(array.shape, array.dtype.name), lambda array=array: array)
            for name, array in arrays.items()]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves_is_read(save, tmp_path):
    save(tmp_path / "a.npz", **ARRAYS)
    opened = open_npz(tmp_path / "a.npz")
    assert list(opened.tensors) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert opened.tensors[name] == TensorInfo(array.shape, array.dtype.name)
        np.testing.assert_array_equal(opened.read(name), array)
        assert opened.read(name).dtype == array.dtype.newbyteorder("=")


def test_numpy_reads_what_is_written_and_the_same_weights_make_the_same_file(tmp_path):
    turned = {**ARRAYS, "turned": ARRAYS["conv1_1_W"].transpose(3, 2, 0, 1)[:, ::-1]}
    write_npz(tmp_path / "a.npz", outgoing(turned))
    write_npz(tmp_path / "b.npz", outgoing(turned))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert list(found) == list(turned)
        for name, array in turned.items():
            np.testing.assert_array_equal(found[name], array)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def member(archive, name, content, size=None):
    """Adds a member, whose size in the list at the end is another where `size` says so."""
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, content)
    if size is not None:
        archive.filelist[-1].file_size = size


def header(shape, descr="<f4"):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(("content", "size", "reason"), [
    (header("(3,)") + b"\0" * 8, None, "an array of 12 bytes where"),
    (header(f"({10**12},)"), None, "an array of 4,000,000,000,000 bytes where"),
    (header(f"({2**31},)") + b"\0" * 100, 2**33, "unpacks to 8,589,934,592 bytes, more than the 4,294,967,296 of any"),
    (header("(-1, -1)") + b"\0" * 4, None, "an impossible shape"),
    (header("(1,)", "|O") + b"\x80\x04cos\nsystem\n.", None, r"is of type \|O: only plain numbers are read"),
    (header("(1,)", "<U3") + b"\0" * 12, None, "is of type <U3"),
    (b"\x93NUMPY\x01\x00\xff\xff{", None, "EOF"),
    (b"\x93NUMPY\x01\x00\x04\x00((((", None, "header"),
    (header("(1L,)") + b"\0" * 8, None, "an array of 4 bytes where 8 lie"),  # as Python 2 writes it
    (b"<html>", None, "magic"),
])
def test_a_bad_array_is_refused_before_it_takes_memory(content, size, reason, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        member(archive, "weights.npy", content, size)
    with pytest.raises(WeightsError, match=rf"a\.npz cannot be read as an \.npz archive of arrays \(.*{reason}.*\):"):
        open_npz(tmp_path / "a.npz")


def test_a_name_that_is_there_twice_or_no_array_is_refused(tmp_path):
    good = header("(1,)") + b"\0" * 4
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive:
        member(archive, "weights.npy", good)
        with pytest.warns(UserWarning, match="Duplicate"):
            member(archive, "weights.npy", good)
    with pytest.raises(WeightsError, match=r"it has weights\.npy twice"):
        open_npz(tmp_path / "twice.npz")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        member(archive, "../../evil.sh", b"rm")
    with pytest.raises(WeightsError, match=r"it holds \.\./\.\./evil\.sh, which is no array"):
        open_npz(tmp_path / "other.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_byte_is_noticed(save, tmp_path):
    values = np.random.default_rng(0).standard_normal(3000)
    save(tmp_path / "a.npz", values=values)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(WeightsError, match=r"CRC|compressed bytes are damaged"):
        open_npz(tmp_path / "a.npz").read("values")


def test_random_damage_gives_the_right_values_or_a_sentence(tmp_path):
    np.savez_compressed(tmp_path / "whole.npz", **ARRAYS)
    whole, random, refused = (tmp_path / "whole.npz").read_bytes(), np.random.default_rng(1), 0
    shutil.copy(tmp_path / "whole.npz", tmp_path / "a.npz")
    for _ in range(400):
        content = bytearray(whole)
        for place in random.integers(0, len(content), 2):
            content[place] = random.integers(0, 256)
        (tmp_path / "a.npz").write_bytes(content)
        try:
            opened = open_npz(tmp_path / "a.npz")
            read = {name: opened.read(name) for name in opened.tensors}
        except WeightsError:
            refused += 1
            continue
        for name in set(read) & set(ARRAYS):
            assert zlib.crc32(read[name].tobytes()) == zlib.crc32(ARRAYS[name].astype(read[name].dtype).tobytes())
    assert refused > 200


def test_a_type_that_numpy_does_not_have_is_refused(tmp_path):
    tensor = Outgoing("weights", TensorInfo((2,), "bfloat16"), lambda: np.zeros(2))
    with pytest.raises(WeightsError, match=r"weights is of type bfloat16, .*: choose \.ckpt or \.safetensors"):
        write_npz(tmp_path / "a.npz", [tensor])
