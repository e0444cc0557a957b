"""OpenVINO IR: model.xml and model.bin, made by OpenVINO from the ONNX graph, and computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino
from openvino.passes import ConstantFolding, Manager

from export.onnx import LOGITS, PROBABILITIES
from export.verify import Predictor

MODEL = "model.xml"
"""Beside model.bin: the names that OpenVINO Model Server and Triton look for."""


def read_model(path: Path) -> Any:
    """An openvino.Model of an ONNX file or of an IR; its layers have the names of the graph's.

    OpenVINO reshapes the weights of depthwise convolutions in the graph. Folded to constants they are quantised for
    every channel; otherwise NNCF takes the columns of the kernels for channels.
    """
    model = openvino.Core().read_model(path)
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)
    return model


def write_model(model: Any, folder: Path) -> Path:
    """Writes model.xml and model.bin; returns the first."""
    openvino.save_model(model, folder / MODEL, compress_to_fp16=False)  # True, the default, would round the weights
    return folder / MODEL


def openvino_predictor(model: Any, size: int | None = None) -> Predictor:
    """Computes an openvino.Model, or the IR at a path, on the CPU; `size`: of the images, if another than its own.

    What is float in it is computed in float32; OpenVINO itself would choose bfloat16 where the processor has it.
    """
    core = openvino.Core()
    if size is not None:
        model = core.read_model(model)
        model.reshape([-1, size, size, 3])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def predict(inputs: Any) -> tuple[Any, Any]:
        outputs = compiled(inputs)
        return outputs[PROBABILITIES], outputs[LOGITS]

    return predict
