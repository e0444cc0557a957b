"""safetensors: what is written is the format's, comes back bit for bit, and nothing in a header is believed."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from voc_cls.errors import WeightsError
from voc_cls.weights.pieces import PIECE, pieces
from voc_cls.weights.safetensors_file import open_safetensors, write_safetensors
from voc_cls.weights.tensors import Outgoing, TensorInfo

Arrays = dict[str, np.ndarray[Any, Any]]


def outgoing(arrays: Arrays) -> list[Outgoing]:
    return [Outgoing(name, TensorInfo(array.shape, array.dtype.name), lambda array=array: array)
            for name, array in arrays.items()]


@pytest.fixture
def arrays() -> Arrays:
    random = np.random.default_rng(0)
    return {"kernel": random.standard_normal((3, 4, 5, 6)).astype(np.float32).transpose(3, 2, 0, 1),
            "half": random.standard_normal((2, 3)).astype(np.float16), "empty": np.zeros((0, 3), np.float32),
            "bfloat": random.standard_normal(5).astype(ml_dtypes.bfloat16), "step": np.array(7, np.int64),
            "double": np.array([np.nan, -0.0, 1e300])}


def raw(path: Path, header: object, values: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + values)
    return path


def test_tensors_of_every_type_and_any_strides_come_back_bit_for_bit(tmp_path: Path, arrays: Arrays):
    write_safetensors(tmp_path / "w.safetensors", outgoing(arrays))
    file = open_safetensors(tmp_path / "w.safetensors")
    assert list(file.tensors) == sorted(arrays)
    for name, array in arrays.items():
        assert file.tensors[name] == TensorInfo(array.shape, array.dtype.name)
        assert file.read(name).dtype == array.dtype
        assert file.read(name).tobytes() == array.tobytes()


def test_the_bytes_are_those_of_the_format(tmp_path: Path):
    write_safetensors(tmp_path / "w.safetensors", outgoing({"a": np.array([[1, 2]], np.float32)}))
    content = (tmp_path / "w.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    assert json.loads(content[8:8 + length]) == {"__metadata__": {"format": "pt"}, "a": {
        "dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}
    assert content[8 + length:] == struct.pack("<2f", 1, 2)


def test_a_transposed_view_is_written_in_pieces_without_a_copy_of_the_whole(tmp_path: Path):
    view = np.arange(20 * 2**20, dtype=np.float32).reshape(5, 2**10, 2**12).transpose(2, 0, 1)  # 84 MB
    tracemalloc.start()
    try:
        write_safetensors(tmp_path / "w.safetensors", outgoing({"view": view}))
        assert tracemalloc.get_traced_memory()[1] < 2.5 * PIECE
    finally:
        tracemalloc.stop()
    assert np.array_equal(open_safetensors(tmp_path / "w.safetensors").read("view"), view)


@pytest.mark.parametrize("array", [np.zeros((0, 5)), np.array(3.0), np.arange(5, dtype=">f4"), np.zeros((1, 3, 2)).T,
                                   np.arange(2**23, dtype=np.float64)[::-1].reshape(1, -1)])
def test_pieces_are_the_little_endian_bytes_in_c_order(array: np.ndarray[Any, Any]):
    written = list(pieces(array))
    assert b"".join(written) == array.astype(array.dtype.newbyteorder("<")).tobytes()
    assert all(len(piece) <= PIECE for piece in written)


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(("header", "reason"), [
    ({"a": entry(offsets=(0, 16))}, "cannot lie at"), ({"a": entry(offsets=(4, 12))}, "cannot lie at"),
    ({"a": entry(), "b": entry()}, "cannot lie at"),  # overlap
    ({"a": entry(shape=(2**40, 2**40))}, "cannot lie at"), ({"a": entry(shape=(-2,))}, "no shape"),
    ({"a": entry(shape=(1.0, 2))}, "no shape"), ({"a": entry("F8_E4M3")}, "F8_E4M3, which is not read"),
    ({}, "belong to no tensor"), ([1], "has not the form"), ({"a": 3}, "has not the form"),
    ({"a": entry(offsets=(0,))}, "cannot|form|values"), (b"[" * 100_000, "is no JSON"), (b"\xff{}", "is no JSON"),
    (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{}}', "stands twice")])
def test_a_header_that_breaks_a_rule_is_one_sentence(tmp_path: Path, header: object, reason: str):
    with pytest.raises(WeightsError, match=reason) as caught:
        open_safetensors(raw(tmp_path / "w.safetensors", header, bytes(8)))
    assert "w.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_header_that_claims_a_terabyte_takes_no_memory(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", 10**12) + b"{}")
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=r"a header of 1,000,000,000,000 bytes is announced and the file has 10"):
            open_safetensors(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_cut_and_flipped_files_give_a_sentence_or_tensors_never_another_error(
        tmp_path: Path, arrays: Arrays, damaged: Callable[[Path], list[Path]]):
    write_safetensors(tmp_path / "w.safetensors", outgoing(arrays))
    refused = 0
    for path in damaged(tmp_path / "w.safetensors"):
        try:
            file = open_safetensors(path)
            for name in file.tensors:
                file.read(name)
        except WeightsError:
            refused += 1
    assert refused > 100


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[Path], list[Path]]:
    """Two hundred copies of a file: cut short, or with bytes that were flipped near the start or anywhere."""
    def copies(whole: Path) -> list[Path]:
        content, random, made = whole.read_bytes(), np.random.default_rng(1), []
        for number in range(200):
            copy = bytearray(content[:random.integers(len(content))] if number % 2 else content)
            for place in random.integers(0, max(1, min(len(copy), 400)), 3 * (number % 2 == 0)):
                copy[place] ^= int(random.integers(1, 256))
            made.append(tmp_path / f"{number}{whole.suffix}")
            made[-1].write_bytes(copy)
        return made

    return copies


def test_a_file_that_shrinks_after_it_was_opened_is_one_sentence(tmp_path: Path, arrays: Arrays):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, outgoing(arrays))
    file = open_safetensors(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(WeightsError, match="cut short"):
        file.read("double")


def test_a_type_that_the_format_lacks_is_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(WeightsError, match="complex64"):
        write_safetensors(tmp_path / "w.safetensors", outgoing({"a": np.zeros(2, np.complex64)}))
    assert not list(tmp_path.iterdir())
