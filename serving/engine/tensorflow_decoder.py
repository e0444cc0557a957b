"""A version's own decoding and preprocessing, on TensorFlow: the graph of its signature `preprocess`, no weights."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from serving.engine.engine import ImageDecodeError, Inputs
from serving.engine.tensorflow_errors import reason
from serving.errors import ServeError

v1 = tf.compat.v1

BMP_HEADER = struct.Struct("<2sIHHI IiiHHIIiiII")


class TensorFlowDecoder:
    """See serving.engine.engine.Decoder for the methods. On the CPU: a GPU is the engines' alone."""

    def __init__(self, meta_graph: Any, threads: int) -> None:
        v1.logging.set_verbosity(v1.logging.ERROR)  # or it warns that sessions are of the old world
        signature = meta_graph.signature_def["preprocess"]
        image_bytes, inputs = signature.inputs["image_bytes"].name, signature.outputs["inputs"].name
        try:
            needed = v1.graph_util.extract_sub_graph(meta_graph.graph_def, [inputs.split(":")[0]])
            with v1.Graph().as_default() as graph:
                v1.import_graph_def(needed, name="")
        except (tf.errors.OpError, ValueError, AssertionError) as error:
            raise ServeError(f"the signature 'preprocess' cannot be used ({reason(error)}): export the model again "
                             "with voc-export") from error
        self._session = v1.Session(graph=graph, config=v1.ConfigProto(
            intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads, device_count={"GPU": 0}))
        self._run = self._session.make_callable(inputs, [image_bytes])

    def decode(self, content: bytes) -> Inputs:
        """One picture file → float32 [size, size, 3]."""
        try:
            inputs: Inputs = self._run(np.array([content], dtype=object))[0]
        except tf.errors.OpError as error:
            raise ImageDecodeError(reason(error)) from None
        return inputs

    def resize(self, image: npt.NDArray[np.uint8]) -> Inputs:
        """One uint8 [H, W, 3] → float32 [size, size, 3]: as a BMP, which holds the very same pixels."""
        return self.decode(bmp(image))

    def close(self) -> None:
        """Closes the session."""
        self._session.close()


def bmp(image: npt.NDArray[np.uint8]) -> bytes:
    """uint8 [H, W, 3] RGB as a 24-bit BMP, rows from top to bottom, each filled up to a multiple of 4 bytes."""
    height, width, _ = image.shape
    rows = np.zeros((height, (3 * width + 3) // 4 * 4), np.uint8)
    rows[:, :3 * width] = image[:, :, ::-1].reshape(height, 3 * width)
    start = 54  # file header 14, info header 40 bytes
    return BMP_HEADER.pack(b"BM", start + rows.size, 0, 0, start,
                           40, width, -height, 1, 24, 0, rows.size, 0, 0, 0, 0) + rows.tobytes()
