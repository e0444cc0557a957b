"""On Keras' JAX backend the training step needs no TensorFlow: machines with GPUs may have JAX alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # imports JAX; `make test-fast` leaves it out

PROGRAM = """
import sys
sys.path.insert(0, "benchmarks")
import gpu_check
gpu_check.SIZE = 8
gpu_check.without_tensorflow()
import keras
from voc_cls.nets.layers import add
from voc_cls.nets.network import build_network
head = build_network("vgg_16", "gap+max+lower", 2, image_size=32, cut="conv2")
print(head.rescaled(2.0, 1.0).model(keras.ops.zeros((1, 32, 32, 3)))[0])
print(add(keras.ops.ones((1, 3)), keras.ops.ones((1, 3)), "sum", "bfloat16", relu=False, scale=0.5)[0])
layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(20, 8), keras.layers.Flatten()]
model = gpu_check.compiled(keras.Sequential(layers), steps=2)
print(gpu_check.loop(model, batch=1, steps=2, end=float("inf"))[0], sys.modules["tensorflow"])
"""


def test_networks_are_trained_without_importing_tensorflow():
    pytest.importorskip("jax")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False,
                          cwd=Path(__file__).parents[3], env={**os.environ, "JAX_PLATFORMS": "cpu"})
    # the classifier's bias is 0, and so are all features
    assert done.stdout.split("\n") == ["[1. 1.]", "[1.5 1.5 1.5]", "2 None", ""], done.stderr
