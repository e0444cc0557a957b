"""safetensors: what is written is the format's and comes back bit for bit; damage is a sentence."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from voc_cls.errors import WeightsError
from voc_cls.weights.formats.arrays import read_safetensors, write_safetensors
from voc_cls.weights.tensors import TensorInfo

Arrays = dict[str, np.ndarray[Any, Any]]


@pytest.fixture
def arrays() -> Arrays:
    random = np.random.default_rng(0)
    return {"kernel": random.standard_normal((3, 4, 5, 6)).astype(np.float32).transpose(3, 2, 0, 1),
            "half": random.standard_normal((2, 3)).astype(np.float16), "empty": np.zeros((0, 3), np.float32),
            "bfloat": random.standard_normal(5).astype(ml_dtypes.bfloat16), "step": np.array(7, np.int64),
            "double": np.array([np.nan, -0.0, 1e300]), "flag": np.array([True, False])}


def test_tensors_of_every_type_and_any_strides_come_back_bit_for_bit(tmp_path: Path, arrays: Arrays):
    write_safetensors(tmp_path / "w.safetensors", arrays)
    file = read_safetensors(tmp_path / "w.safetensors")
    assert list(file.tensors) == sorted(arrays)
    for name, array in arrays.items():
        assert file.tensors[name] == TensorInfo(array.shape, array.dtype.name)
        assert file.read(name).dtype == array.dtype
        assert file.read(name).tobytes() == array.tobytes()


def test_the_bytes_are_those_of_the_format(tmp_path: Path):
    write_safetensors(tmp_path / "w.safetensors", {"a": np.array([[1, 2]], np.float32)})
    content = (tmp_path / "w.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert json.loads(content[8:8 + length]) == {"__metadata__": {"format": "pt"}, "a": {
        "dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}
    assert content[8 + length:] == struct.pack("<2f", 1, 2)


@pytest.mark.parametrize(("dtype", "offsets"), [("F32", (0, 16)), ("F32", (4, 12)), ("F8_E4M3", (0, 2))])
def test_a_header_that_does_not_fit_is_one_sentence(tmp_path: Path, dtype: str, offsets: tuple[int, int]):
    header = json.dumps({"a": {"dtype": dtype, "shape": (2,), "data_offsets": offsets}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(offsets[1] if dtype != "F32" else 8))
    with pytest.raises(WeightsError, match=r"w\.safetensors cannot be read \(.+\): ") as caught:
        read_safetensors(path)
    assert "\n" not in str(caught.value)


def test_a_header_that_claims_a_terabyte_and_a_file_cut_short_are_refused(tmp_path: Path, arrays: Arrays):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", 10**12) + b"{}")
    with pytest.raises(WeightsError, match=r"w\.safetensors cannot be read"):
        read_safetensors(path)
    write_safetensors(path, arrays)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(WeightsError, match=r"w\.safetensors cannot be read"):
        read_safetensors(path)
