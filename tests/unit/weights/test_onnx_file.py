"""ONNX: initialisers are read bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_files import save_initializers
from voc_cls.errors import WeightsError
from voc_cls.weights.formats.arrays import read_onnx
from voc_cls.weights.load import load_weights_file
from voc_cls.weights.tensors import TensorInfo

Arrays = dict[str, np.ndarray[Any, Any]]


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
    file = read_onnx(tmp_path / "net.onnx")
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
    file = read_onnx(tmp_path / "net.onnx")
    assert {name: file.read(name).tolist() for name in file.tensors} == {
        "floats": [[1, 2], [3, 4.5]], "doubles": [1, -2], "longs": [1, -2, 2**40], "halves": [0.5, -2]}
    assert {name: info.dtype for name, info in file.tensors.items()} == {
        "floats": "float32", "doubles": "float64", "longs": "int64", "halves": "float16"}


def test_values_in_a_file_beside_the_model_are_read(tmp_path: Path, arrays: Arrays):
    onnx.save(model(*(numpy_helper.from_array(array.copy(), name) for name, array in arrays.items())),
              tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    assert (tmp_path / "net.bin").stat().st_size > 1000
    file = read_onnx(tmp_path / "net.onnx")
    assert file.read("kernel").tobytes() == arrays["kernel"].tobytes()
    (tmp_path / "net.bin").write_bytes(b"short")
    with pytest.raises(WeightsError, match=r"net\.onnx cannot be read \(External data length"):
        read_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "below/../../secret", ""])
def test_values_outside_the_models_folder_are_not_read(tmp_path: Path, location: str):
    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "models").mkdir()
    tensor = TensorProto(name="a", dims=[2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    path = tmp_path / "models/net.onnx"
    path.write_bytes(model(tensor).SerializeToString())
    with pytest.raises(WeightsError, match=r"net\.onnx cannot be read \(.*(outside|absolute path|be empty)"):
        read_onnx(path)


def test_a_link_beside_the_model_that_leads_elsewhere_is_not_followed(tmp_path: Path):
    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "models").mkdir()
    (tmp_path / "models/net.bin").symlink_to(tmp_path / "secret")
    tensor = TensorProto(name="a", dims=[2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="net.bin")
    (tmp_path / "models/net.onnx").write_bytes(model(tensor).SerializeToString())
    with pytest.raises(WeightsError, match="is a symbolic link"):
        read_onnx(tmp_path / "models/net.onnx")


FLOAT = TensorProto.FLOAT


@pytest.mark.parametrize("tensor", [
    TensorProto(name="features.28.weight", dims=[10**12], data_type=FLOAT, raw_data=bytes(8)),
    TensorProto(name="features.28.weight", dims=[2**62, 2**62], data_type=FLOAT),
    TensorProto(name="features.28.weight", dims=[-2], data_type=FLOAT, raw_data=bytes(8)),
    TensorProto(name="features.28.weight", dims=[1] * 99, data_type=FLOAT, raw_data=bytes(4))])
def test_what_a_tensor_claims_is_not_believed(tmp_path: Path, tensor: TensorProto):
    (tmp_path / "net.onnx").write_bytes(model(tensor).SerializeToString())
    with pytest.raises(WeightsError, match=r"net\.onnx.* cannot be read") as caught:
        load_weights_file(tmp_path / "net.onnx").read("vgg_16/conv5/conv5_3/weights")
    assert "\n" not in str(caught.value)


def test_a_model_without_initialisers_is_refused(tmp_path: Path):
    (tmp_path / "net.onnx").write_bytes(model().SerializeToString())
    with pytest.raises(WeightsError, match="without initialisers"):
        read_onnx(tmp_path / "net.onnx")


def test_too_few_numbers_in_the_field_of_a_type_are_one_sentence(tmp_path: Path):
    tensor = TensorProto(name="a", dims=[4], data_type=TensorProto.INT64, int64_data=[1, 2, 3])
    (tmp_path / "net.onnx").write_bytes(model(tensor).SerializeToString())
    with pytest.raises(WeightsError, match="a cannot be read"):
        read_onnx(tmp_path / "net.onnx").read("a")


@pytest.mark.parametrize("content", [b"", b"\x00", b"<html>not found</html>", b"\xff"], ids=repr)
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.onnx (cannot be read|is an ONNX model without initialisers)"):
        read_onnx(tmp_path / "net.onnx")


def test_a_file_cut_short_is_one_sentence(tmp_path: Path, arrays: Arrays):
    save_initializers(tmp_path / "net.onnx", arrays)
    content = (tmp_path / "net.onnx").read_bytes()
    for length in (20, len(content) // 2, len(content) - 3):
        (tmp_path / "net.onnx").write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"net\.onnx"):
            read_onnx(tmp_path / "net.onnx")
