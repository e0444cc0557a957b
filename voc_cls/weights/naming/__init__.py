"""The name maps: one table per pair of formats, between TF-Slim's names and another library's."""

from voc_cls.weights.naming.dialect import Dialect, Row
from voc_cls.weights.naming.layout import Layout

__all__ = ["Dialect", "Layout", "Row", "dialects"]


def dialects() -> tuple[Dialect, ...]:
    """Every dialect, in the order in which they are tried."""
    from voc_cls.weights.naming import keras, npz, tf2onnx, torchvision

    return keras.DIALECT, torchvision.DIALECT, tf2onnx.DIALECT, npz.DIALECT
