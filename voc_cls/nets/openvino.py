"""A Keras model computed by OpenVINO: the same layers, on many processors faster than by Keras' backends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
"""Number formats that OpenVINO computes in on a processor → its names of them."""


def openvino_function(model: keras.Model, precision: str, batch_size: int, threads: int
                      ) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]:
    """`model` for batches of [batch_size, …], in inference, as a function from float32 to the model's own type.

    precision: one of PRECISIONS, whatever the model's policy. What follows the last convolution is float32 in both.
    """
    import openvino

    core = openvino.Core()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.xml"
        model.export(str(file), format="openvino", verbose=False)
        graph = core.read_model(file)
        graph.reshape([batch_size, *model.input_shape[1:]])
        compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": PRECISIONS[precision],
                                                     "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads})
    return lambda images: compiled(images)[0].astype(model.output.dtype)
