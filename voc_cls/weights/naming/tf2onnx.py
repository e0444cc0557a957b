"""The names that tf2onnx gives to the initialisers of keras.applications' VGG16 and VGG19.

Kernels are output, input, height, width, of blue, green, red; dense layers are Keras' matrices. It merges the batch
normalisation of a ResNet into the convolutions, so those networks do not come back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from voc_cls.nets.registry import NetSpec
from voc_cls.weights.naming import keras
from voc_cls.weights.naming.dialect import Dialect, Row
from voc_cls.weights.naming.layout import OIHW, Layout
from voc_cls.weights.tensors import TensorInfo

NAME = re.compile(r"(?:.*/)?(?P<layer>block\d_conv\d|fc1|fc2|predictions)(?:_\d+)?/"
                  r"(?P<what>(?:convolution|Conv2D)/ReadVariableOp|MatMul/ReadVariableOp|"
                  r"Squeeze|(?:Reshape|BiasAdd|Add|add)/ReadVariableOp)(?::0)?")
"""Such as functional_1/block1_conv1_1/convolution/ReadVariableOp:0 (Keras 3) or vgg16/fc1/MatMul/ReadVariableOp:0."""
KERNELS = ("convolution/", "Conv2D/", "MatMul/")


def recognise(names: Iterable[str]) -> str | None:
    """The network whose initialisers a file has; None where it was not made so."""
    return keras.recognise(_keras_names(names))


def rows(spec: NetSpec, tensors: Mapping[str, TensorInfo]) -> tuple[Row, ...]:
    """The map of `spec`, without what `tensors` lacks: only in, nothing is written in these names."""
    theirs = _keras_names(tensors)
    known = {name: tensors[onnx] for name, onnx in theirs.items()}
    found = []
    for row in keras.rows(spec, known):
        how = row.layout
        if len(known[row.foreign].shape) == 4:
            how = Layout(OIHW, bgr=how.bgr)
        found.append(Row(row.slim, theirs[row.foreign], how))
    return tuple(found)


def _keras_names(names: Iterable[str]) -> dict[str, str]:
    """Keras' name → the name in the file."""
    found = {}
    for name in names:
        if match := NAME.fullmatch(name):
            variable = "kernel" if match["what"].startswith(KERNELS) else "bias"
            found[f"{match['layer']}/{variable}"] = name
    return found


DIALECT = Dialect("tf2onnx", "auto", recognise, rows)
