"""Pickles read without running what is in them."""

import collections
import io
import os
import pickle

import numpy as np
import pytest

from voc_cls.errors import DataError, WeightsError
from voc_cls.pickles import load_pickle

CONTENT = {
    "single": np.arange(6, dtype=np.float32).reshape(2, 3),
    "big-endian": np.arange(4, dtype=">i4"),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "text": np.array(["a", "bc"]),
    "objects": np.array({"inside": np.ones(2)}, dtype=object),
    "scalar": np.float64(0.5),
    "list": [1, 2.5, None, True, "ä", b"bytes", bytearray(b"more"), (1, (2, 3))],
    "ordered": collections.OrderedDict(x=1, y=2),
}
PYTHON_2 = (b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
            b"K\x02K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
            b"U\x04\x01\x02\xfe\xfftbU\x06labels]K\x07au.")


def load(content, **options):
    return load_pickle(io.BytesIO(content), "file.npy", **options)


class Calls:
    """Is pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_builtin_containers_are_read_from_every_protocol(protocol):
    found = load(pickle.dumps(CONTENT, protocol))
    assert list(found) == list(CONTENT)
    for name in ("single", "big-endian", "fortran", "text", "scalar"):
        np.testing.assert_array_equal(found[name], CONTENT[name])
        assert found[name].dtype == CONTENT[name].dtype.newbyteorder("=")
    np.testing.assert_array_equal(found["objects"].item()["inside"], np.ones(2))
    assert found["list"] == CONTENT["list"]
    assert found["ordered"] == {"x": 1, "y": 2}


def test_pickles_of_python_2_are_read_with_their_strings_as_text_or_bytes():
    found = load(PYTHON_2)
    assert found["labels"] == [7]
    np.testing.assert_array_equal(found["data"], np.array([[1, 2], [254, 255]], np.uint8))
    as_bytes = load(PYTHON_2, encoding="bytes")
    np.testing.assert_array_equal(as_bytes[b"data"], found["data"])


@pytest.mark.parametrize(("wanted", "name"), [
    (Calls(os.system, "touch {marker}"), "system"),
    (Calls(eval, "open('{marker}', 'w')"), "eval"),
    (Calls(getattr, "x", "upper"), "getattr"),
    (Calls(np.load, "{marker}"), "load"),
    (collections.Counter, "Counter"),
])
def test_a_wish_to_run_something_is_refused_by_name_and_not_run(wanted, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for protocol in (0, 2, 4):
        content = pickle.dumps({"weights": wanted}, protocol).replace(b"{marker}", b"<marker>")
        with pytest.raises(WeightsError, match=rf"^file\.npy holds the wish to run [\w.]+\.{name}; .* that you trust$"):
            load(content)
    assert list(tmp_path.iterdir()) == []


def test_names_and_references_can_be_allowed_as_functions_or_values():
    content = pickle.dumps([Calls(os.getenv, "HOME"), os.getcwd])
    allowed = {("os", "getenv"): lambda name: f"asked for {name}", ("posix", "getcwd"): "a value"}
    assert load(content, allowed=allowed) == ["asked for HOME", "a value"]
    assert load(b"\x80\x02K\x05Q.", persistent_load=lambda pid: pid + 1) == 6
    with pytest.raises(WeightsError, match="a reference to something outside"):
        load(b"\x80\x02K\x05Q.")


@pytest.mark.parametrize("content", [
    b"", b"hello", b".", pickle.dumps(CONTENT)[:-40],
    b"\x80\x05\x96" + (10**12).to_bytes(8, "little") + b".",  # a bytearray of 10^12 bytes
    b"\x80\x04\x8e" + (10**12).to_bytes(8, "little") + b".",  # as bytes
    b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b".",  # as a frame
    b"\x80\x02cnumpy\ndtype\nX\x02\0\0\0f4\x85RNb.",
])
def test_damage_is_told_in_one_sentence(content):
    with pytest.raises(WeightsError, match=r"^file\.npy cannot be read as a pickle \(.+\): it is damaged") as told:
        load(content)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("content", "what"), [
    (pickle.dumps(np.zeros(3, [("a", "f4")])), "arrays of type 'V4'"),
    (b"\x80\x02cnumpy\ndtype\nX\x02\0\0\0f4\x85R(K\x03X\x01\0\0\0<X\x01\0\0\0aNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb.",
     "arrays of records"),
    (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}X\x08\0\0\0__code__K\x01sb.", "attributes for a function"),
])
def test_what_could_change_how_arrays_are_read_is_refused(content, what):
    with pytest.raises(WeightsError, match=what):
        load(content)


def test_an_array_of_objects_has_as_many_as_its_shape_says():
    content = pickle.dumps(np.array([1, "a", None], dtype=object), 2)
    assert load(content).tolist() == [1, "a", None]
    with pytest.raises(WeightsError, match="another number of values"):
        load(content.replace(b"(K\x01K\x03\x85", b"(K\x01K\x09\x85"))


def test_the_error_is_of_the_kind_that_is_asked_for():
    with pytest.raises(DataError, match="damaged"):
        load(b"", error=DataError)
