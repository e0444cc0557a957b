"""The tiny model in OpenVINO's form, as voc-export --format openvino writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from tests.integration.serving.tiny_model import LABELS, SIZE, metadata

RANGE = 300.0
"""Of the inputs of the int8 model."""


def export_tiny_ir(version_folder: Path, *, seed: int = 0, int8: bool = False, outputs: tuple[str, str] = (
        "probabilities", "logits"), **form: Any) -> Path:
    """Writes model.xml and model.bin with the weights of the SavedModel of that seed, beside it if it is there.

    `form`: what assets/voc_cls.json says of it beside its precision.
    """
    generator = np.random.default_rng(seed)  # as TinyModel does
    kernel = generator.normal(0, 0.003, (SIZE * SIZE * 3, len(LABELS))).astype(np.float32)
    bias = generator.normal(0, 1, len(LABELS)).astype(np.float32)
    inputs = ops.parameter([-1, SIZE, SIZE, 3], np.float32, "inputs")
    flat = ops.reshape(inputs, np.array([-1, SIZE * SIZE * 3]), special_zero=False)
    if int8:
        flat = _rounded(flat, RANGE)
        kernel = _rounded(ops.constant(kernel), float(np.abs(kernel).max()))
    logits = ops.add(ops.matmul(flat, kernel, False, False), bias)
    network = openvino.Model([ops.sigmoid(logits), logits], [inputs], "tiny")
    for tensor, name in zip((*network.inputs, *network.outputs), ("inputs", *outputs), strict=True):
        tensor.get_tensor().set_names({name})
    openvino.save_model(network, version_folder / "model.xml", compress_to_fp16=False)
    assets = version_folder / "assets"
    assets.mkdir(exist_ok=True)
    forms = {"openvino": {"precision": "int8" if int8 else "float32", "largest_difference": 0.0, "map": None, **form}}
    (assets / "voc_cls.json").write_text(json.dumps({**metadata(), "forms": forms}))
    return version_folder


def _rounded(values: Any, largest: float) -> Any:
    """As NNCF marks what is to be computed in int8."""
    ends = [np.float32(-largest), np.float32(largest * 127 / 128)]
    return ops.fake_quantize(values, *ends, *ends, 256)
