"""MobileNet v1 (Howard et al. 2017, arXiv:1704.04861), as TF-Slim's nets/mobilenet_v1.py has it, of any width."""

from __future__ import annotations

from keras import KerasTensor as Tensor

from voc_cls.nets.layers import Backbone, Norm, conv, depthwise
from voc_cls.nets.registry import NetSpec

NORM = Norm(decay=0.9997, epsilon=1e-3, gamma=True, ceiling=6.0)  # mobilenet_v1_arg_scope; its activation is ReLU6
DROPOUT = 0.001  # dropout_keep_prob=0.999


def backbone(spec: NetSpec, images: Tensor, dtype: str) -> Backbone:
    """Conv2d_0, then pairs: a filter for every channel (depthwise), and a 1 × 1 convolution (pointwise)."""
    (filters, stride), *pairs = spec.blocks
    entries: dict[str, Tensor | None] = {"Conv2d_0": images}
    x = conv(images, "Conv2d_0", filters, (3, 3), stride, norm=NORM, dtype=dtype)
    for number, (filters, stride) in enumerate(pairs, 1):
        first, second = f"Conv2d_{number}_depthwise", f"Conv2d_{number}_pointwise"
        entries[first] = x
        x = depthwise(x, first, (3, 3), stride, NORM, dtype)
        entries[second] = x
        x = conv(x, second, filters, (1, 1), norm=NORM, dtype=dtype)
    return Backbone(x, x, entries)
