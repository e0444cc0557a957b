"""ONNX: what onnx writes is read without it, and what is written onnx reads."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from voc_cls.errors import WeightsError
from voc_cls.weights import onnx_file
from voc_cls.weights.onnx_file import open_onnx, write_onnx
from voc_cls.weights.pieces import PIECE
from voc_cls.weights.tensors import Outgoing, TensorInfo

Arrays = dict[str, np.ndarray[Any, Any]]


def outgoing(arrays: Arrays) -> list[Outgoing]:
    return [Outgoing(name, TensorInfo(array.shape, array.dtype.name), lambda array=array: array)
            for name, array in arrays.items()]


def model(*tensors: TensorProto) -> onnx.ModelProto:
    """A model with a node, an input and an output, as exporters make them, and these initialisers."""
    float32 = TensorProto.FLOAT
    node = helper.make_node("Relu", ["x"], ["y"])
    return helper.make_model(helper.make_graph(
        [node], "net", [helper.make_tensor_value_info("x", float32, [1])],
        [helper.make_tensor_value_info("y", float32, [1])], initializer=list(tensors)), producer_name="test")


@pytest.fixture
def arrays() -> Arrays:
    random = np.random.default_rng(0)
    return {"kernel": random.standard_normal((3, 4, 5, 6)).astype(np.float32).transpose(3, 2, 0, 1),
            "half": random.standard_normal((2, 3)).astype(np.float16), "empty": np.zeros((0, 3), np.float32),
            "bfloat": random.standard_normal(5).astype(ml_dtypes.bfloat16), "step": np.array(7, np.int64),
            "double": np.array([np.nan, -0.0, 1e300])}


def test_initialisers_that_onnx_wrote_are_read_bit_for_bit(tmp_path: Path, arrays: Arrays):
    onnx.save(model(*(numpy_helper.from_array(array.copy(), name) for name, array in arrays.items())),
              tmp_path / "net.onnx")
    file = open_onnx(tmp_path / "net.onnx")
    assert list(file.tensors) == sorted(arrays)
    for name, array in arrays.items():
        assert file.tensors[name] == TensorInfo(array.shape, array.dtype.name)
        assert file.read(name).tobytes() == array.tobytes()


def test_values_in_the_fields_of_their_types_are_read_too(tmp_path: Path):
    onnx.save(model(helper.make_tensor("floats", TensorProto.FLOAT, [2, 2], [1, 2, 3, 4.5]),
                    helper.make_tensor("doubles", TensorProto.DOUBLE, [2], [1, -2]),
                    helper.make_tensor("longs", TensorProto.INT64, [3], [1, -2, 2**40]),
                    helper.make_tensor("halves", TensorProto.FLOAT16, [2], [0.5, -2]),
                    helper.make_tensor("words", TensorProto.STRING, [1], [b"x"])), tmp_path / "net.onnx")
    file = open_onnx(tmp_path / "net.onnx")
    assert {name: file.read(name).tolist() for name in file.tensors} == {
        "floats": [[1, 2], [3, 4.5]], "doubles": [1, -2], "longs": [1, -2, 2**40], "halves": [0.5, -2]}
    assert {name: info.dtype for name, info in file.tensors.items()} == {
        "floats": "float32", "doubles": "float64", "longs": "int64", "halves": "float16"}


def test_what_is_written_onnx_reads_bit_for_bit(tmp_path: Path, arrays: Arrays):
    write_onnx(tmp_path / "net.onnx", outgoing(arrays))
    read = onnx.load(tmp_path / "net.onnx")
    assert (read.producer_name, read.opset_import[0].version) == ("voc-cls", 17)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in read.graph.initializer}
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        assert found[name].tobytes() == array.tobytes() == open_onnx(tmp_path / "net.onnx").read(name).tobytes()


def test_opening_a_large_model_takes_no_memory_and_writing_it_a_few_pieces(tmp_path: Path):
    view = np.arange(20 * 2**20, dtype=np.float32).reshape(5, 2**10, 2**12).transpose(2, 0, 1)  # 84 MB
    tracemalloc.start()
    try:
        write_onnx(tmp_path / "net.onnx", outgoing({"view": view, "next": np.arange(3)}))
        assert tracemalloc.get_traced_memory()[1] < 2.5 * PIECE
        tracemalloc.reset_peak()
        file = open_onnx(tmp_path / "net.onnx")
        assert file.read("next").tolist() == [0, 1, 2]
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert np.array_equal(file.read("view"), view)


def test_values_in_a_file_beside_the_model_are_read(tmp_path: Path, arrays: Arrays):
    onnx.save(model(*(numpy_helper.from_array(array.copy(), name) for name, array in arrays.items())),
              tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    assert (tmp_path / "net.bin").stat().st_size > 1000
    file = open_onnx(tmp_path / "net.onnx")
    assert file.read("kernel").tobytes() == arrays["kernel"].tobytes()
    (tmp_path / "net.bin").write_bytes(b"short")
    with pytest.raises(WeightsError, match=r"should be in net\.bin beside it, which is missing or too short"):
        open_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "below/../../secret", ""])
def test_values_outside_the_models_folder_are_not_read(tmp_path: Path, location: str):
    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "models").mkdir()
    tensor = TensorProto(name="a", dims=[2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    path = tmp_path / "models/net.onnx"
    path.write_bytes(model(tensor).SerializeToString())
    with pytest.raises(WeightsError, match="outside its folder"):
        open_onnx(path)


def test_a_link_beside_the_model_that_leads_elsewhere_is_not_followed(tmp_path: Path):
    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "models").mkdir()
    (tmp_path / "models/net.bin").symlink_to(tmp_path / "secret")
    tensor = TensorProto(name="a", dims=[2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="net.bin")
    (tmp_path / "models/net.onnx").write_bytes(model(tensor).SerializeToString())
    with pytest.raises(WeightsError, match="outside its folder"):
        open_onnx(tmp_path / "models/net.onnx")


FLOAT = TensorProto.FLOAT


@pytest.mark.parametrize(("tensors", "reason"), [
    ([TensorProto(name="a", dims=[10**12], data_type=FLOAT, raw_data=bytes(8))], "4,000,000,000,000 bytes and has 8"),
    ([TensorProto(name="a", dims=[2**62, 2**62], data_type=FLOAT)], "too few values"),
    ([TensorProto(name="a", dims=[-2], data_type=FLOAT, raw_data=bytes(8))], "impossible shape"),
    ([TensorProto(name="a", dims=[1] * 99, data_type=FLOAT, raw_data=bytes(4))], "impossible shape"),
    ([TensorProto(name="a", dims=[1], data_type=FLOAT, raw_data=bytes(4))] * 2, "two initialisers"),
    ([], "without initialisers")])
def test_what_a_tensor_claims_is_not_believed(tmp_path: Path, tensors: list[TensorProto], reason: str):
    (tmp_path / "net.onnx").write_bytes(model(*tensors).SerializeToString())
    with pytest.raises(WeightsError, match=reason) as caught:
        open_onnx(tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)


def test_too_few_numbers_in_the_field_of_a_type_are_one_sentence(tmp_path: Path):
    tensor = TensorProto(name="a", dims=[4], data_type=TensorProto.INT64, int64_data=[1, 2, 3])
    (tmp_path / "net.onnx").write_bytes(model(tensor).SerializeToString())
    with pytest.raises(WeightsError, match="a cannot be read"):
        open_onnx(tmp_path / "net.onnx").read("a")


@pytest.mark.parametrize("content", [b"", b"\x00", b"<html>not found</html>", b"\xff" * 100])
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.onnx is no complete ONNX model"):
        open_onnx(tmp_path / "net.onnx")


def test_cut_and_flipped_files_give_a_sentence_or_tensors_never_another_error(tmp_path: Path, arrays: Arrays):
    write_onnx(tmp_path / "net.onnx", outgoing(arrays))
    whole, random, refused = (tmp_path / "net.onnx").read_bytes(), np.random.default_rng(1), 0
    assert len(whole) > 1500
    for number in range(200):
        copy = bytearray(whole[:random.integers(len(whole))] if number % 2 else whole)
        for place in random.integers(0, max(1, min(len(copy), 80)), 2 * (number % 2 == 0)):
            copy[place] ^= int(random.integers(1, 256))
        (tmp_path / "damaged.onnx").write_bytes(copy)
        try:
            file = open_onnx(tmp_path / "damaged.onnx")
            for name in file.tensors:
                file.read(name)
        except WeightsError:
            refused += 1
    assert refused > 100


def test_more_than_a_protocol_buffer_can_hold_is_refused_before_anything_is_written(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrays: Arrays):
    monkeypatch.setattr(onnx_file, "LARGEST", 2000)
    with pytest.raises(WeightsError, match=r"more than an ONNX file can hold.*write \.safetensors"):
        write_onnx(tmp_path / "net.onnx", outgoing(arrays))
    with pytest.raises(WeightsError, match="complex64"):
        write_onnx(tmp_path / "net.onnx", outgoing({"a": np.zeros(2, np.complex64)}))
    assert not list(tmp_path.iterdir())
