"""Every network with every head computes the same in ONNX Runtime and OpenVINO: ten minutes, 3 GB of memory."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from export.onnx import onnx_predictor, write_onnx
from export.openvino import openvino_predictor, read_model, write_model
from voc_cls.data.dataset import Task
from voc_cls.errors import UsageError
from voc_cls.nets.network import build_network
from voc_cls.nets.registry import HEADS, NETS

SMALL = 96
"""Pixels for the heads that take any size, where the network can be as small."""


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("net", NETS)
def test_logits_are_those_of_the_trained_network(net: str, head: str, tmp_path: Path):
    keras.backend.clear_session()
    if net.startswith("nasnet") and head == "gap+max+lower":
        with pytest.raises(UsageError, match="two grids enter"):
            build_network(net, head, 20)
        return
    network = build_network(net, head, 20, image_size=None if head == "fc" else max(SMALL, NETS[net].smallest))
    size, random = network.spec.preprocessing.size, np.random.default_rng(0)
    images = random.uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    for variable in network.model.weights:
        if variable.path.endswith(("moving_mean", "beta", "bias")):
            variable.assign(random.normal(0, 0.05, variable.shape))
        elif variable.path.endswith(("moving_variance", "gamma")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    right = network.model(images, training=False).numpy()
    write_onnx(tmp_path / "model.onnx", network, Task.MULTI_LABEL)
    path = write_model(read_model(tmp_path / "model.onnx"), tmp_path)
    for predict in (onnx_predictor(tmp_path / "model.onnx"), openvino_predictor(path)):
        np.testing.assert_allclose(predict(images)[1], right, atol=2e-5 * np.abs(right).max(), rtol=0)
