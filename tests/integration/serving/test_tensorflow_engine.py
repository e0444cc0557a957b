"""The network computes what the SavedModel computes; precision is what the machine can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving.engine.tensorflow import TensorFlowNetwork, choose_precision
from serving.errors import ServeError
from serving.models.signatures import read_signatures
from tests.integration.serving.tiny_model import SIZE, export_tiny_model
from voc_cls.model_metadata import read_metadata, signatures_of


@pytest.fixture
def inputs() -> Any:
    return np.random.default_rng(0).normal(0, 50, (5, SIZE, SIZE, 3)).astype(np.float32)


def test_the_network_computes_what_the_saved_model_computes(model: Path, saved_model: Any, inputs: Any) -> None:
    network = TensorFlowNetwork(model / "10", "float32", 1)
    expected = saved_model.signatures["predict_tensors"](inputs=tf.constant(inputs))
    scores = network.predict(inputs)
    np.testing.assert_allclose(scores.probabilities, expected["probabilities"].numpy(), atol=1e-6)
    np.testing.assert_allclose(scores.logits, expected["logits"].numpy(), rtol=1e-5, atol=1e-5)
    assert network.description == f"TensorFlow {tf.__version__}, CPU, float32, 1 threads"


def test_no_variable_is_left_in_it(model: Path) -> None:
    operations = {operation.type for operation in
                  TensorFlowNetwork(model / "10", "float32", 1)._session.graph.get_operations()}
    assert "Const" in operations
    assert not operations & {"VarHandleOp", "ReadVariableOp", "VariableV2"}


def test_bfloat16_is_close(model: Path, inputs: Any) -> None:
    try:
        network = TensorFlowNetwork(model / "10", "bfloat16", 1)
    except ServeError as error:
        pytest.skip(str(error))
    exact = TensorFlowNetwork(model / "10", "float32", 1)
    assert "bfloat16" in network.description
    difference = np.abs(network.predict(inputs).logits - exact.predict(inputs).logits).max()
    assert 0 < difference < 0.1


@pytest.mark.parametrize(("flags", "able"), [("fpu avx512f avx512_bf16 avx2", True), ("fpu amx_bf16", True),
                                             ("fpu avx2 avx512f", False)])
def test_auto_is_bfloat16_where_the_cpu_has_instructions_for_it(tmp_path: Path, flags: str, able: bool) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert choose_precision("auto", info) == ("bfloat16" if able else "float32")
    assert choose_precision("float32", info) == "float32"
    if able:
        assert choose_precision("bfloat16", info) == "bfloat16"
    else:
        with pytest.raises(ServeError, match="`precision` bfloat16 needs a CPU with avx512_bf16 or amx_bf16"):
            choose_precision("bfloat16", info)


def test_a_model_that_lacks_a_signature_is_named_with_what_it_has(tmp_path: Path) -> None:
    version = export_tiny_model(tmp_path / "part" / "1", without="preprocess")
    with pytest.raises(ServeError, match=r"has no signature 'preprocess' \(it has: .*classify, predict_images"):
        read_signatures(version, read_metadata(version))


def test_a_model_with_another_tag_is_told_so(tmp_path: Path) -> None:
    folder = export_tiny_model(tmp_path / "1")
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    saved.meta_graphs[0].meta_info_def.tags[:] = ["train"]
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(ServeError, match=r"has no graph with the tag 'serve': export the model again"):
        read_signatures(folder, read_metadata(folder))


def test_a_version_without_a_saved_model_has_the_same_signatures_but_for_the_names_in_its_graph(model: Path,
                                                                                                tmp_path: Path) -> None:
    metadata = read_metadata(model / "10")
    written, made = (read_signatures(folder, metadata).signature_def for folder in (model / "10", tmp_path))
    assert set(made) == set(signatures_of(augmented=False))
    for name in signatures_of(augmented=False):
        for ours, theirs in ((made[name].inputs, written[name].inputs), (made[name].outputs, written[name].outputs)):
            assert {key: (tensor.dtype, tensor.tensor_shape) for key, tensor in ours.items()} == {
                key: (tensor.dtype, tensor.tensor_shape) for key, tensor in theirs.items()}, name
