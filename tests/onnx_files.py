"""ONNX files of weights, as exporters of PyTorch write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx


def save_initializers(path: Path, tensors: Mapping[str, np.ndarray[Any, Any]]) -> Path:
    """Writes a model whose graph has these initialisers."""
    initializers = [onnx.numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in tensors.items()]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "weights", [], [], initializers)), path)
    return path
