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
import voc_cls.nets.network
layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(20, 8), keras.layers.Flatten()]
model = gpu_check.compiled(keras.Sequential(layers), steps=2)
print(gpu_check.loop(model, batch=1, steps=2, end=float("inf"))[0], sys.modules["tensorflow"])
"""


def test_networks_are_trained_without_importing_tensorflow():
    pytest.importorskip("jax")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False,
                          cwd=Path(__file__).parents[3], env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.stdout.split() == ["2", "None"], done.stderr
