"""What TF-Slim's own graphs have and compute, for networks that the package tf_slim does not have: slim_facts.json."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_READ = json.loads(Path(__file__).with_suffix(".json").read_text())
FACTS: dict[str, dict[str, Any]] = _READ["nets"]
FILES: dict[str, dict[str, Any]] = _READ["files"]
"""File with real weights → what its network computes."""


def variables_digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Of names and shapes, as slim_facts.json has it."""
    return hashlib.sha256("\n".join(sorted(f"{name} {list(shape)}" for name, shape in shapes.items())).encode()
                          ).hexdigest()


def seeded_values(name: str, shape: tuple[int, ...], factors: Mapping[str, float]) -> Array:
    """The values that TF-Slim's variable had; factors: end of a name → what its values are multiplied with."""
    random, word = np.random.RandomState(zlib.crc32(name.encode()) & 0x7fffffff), name.rpartition("/")[2]
    if word in ("weights", "pointwise_weights"):
        values = random.normal(0, np.sqrt(2 / prod(shape[:-1])), shape)
    elif word == "depthwise_weights":
        values = random.normal(0, np.sqrt(2 / (shape[0] * shape[1])), shape)
    elif word in ("biases", "beta"):
        values = random.normal(0, 0.01, shape)
    elif word == "gamma":
        values = 1 + random.normal(0, 0.05, shape)
    elif word == "moving_mean":
        values = random.normal(0, 0.05, shape)
    else:
        assert word == "moving_variance"
        values = 1 + 0.1 * abs(random.normal(0, 1, shape))
    return (values * prod(factor for end, factor in factors.items() if name.endswith(end))).astype(np.float32)


def check_seeded(net: str) -> None:
    """Asserts that `net` with the seeded values gives TF-Slim's last grid and logits."""
    facts = FACTS[net]
    grid = _check_logits(net, lambda name, shape: seeded_values(name, shape, facts["factors"]), facts)
    assert list(grid.shape) == facts["grid"]["shape"]
    assert abs(grid.sum(dtype=np.float64) / facts["grid"]["sum"] - 1) < 1e-5


def check_file(file: Path) -> None:
    """Asserts that the real weights in `file`, one of FILES, give TF-Slim's logits."""
    from voc_cls.weights.load import load_weights_file

    facts = FILES[file.name]
    weights = load_weights_file(file, facts["net"])
    assert weights.net == facts["net"]
    _check_logits(facts["net"], lambda name, _: weights.read(name), facts)


def _check_logits(net: str, values: Callable[[str, tuple[int, ...]], Array], facts: Mapping[str, Any]) -> Array:
    """Compares the logits of two images of noise; returns the last grid."""
    import keras

    from voc_cls.nets.network import build
    from voc_cls.nets.registry import net_spec
    from voc_cls.nets.shapes import slim_shapes

    spec = net_spec(net)
    network, shapes = build(spec, "fc", spec.imagenet_classes), slim_shapes(spec)
    for name, variable in network.variables().items():
        slim = spec.slim_path(name)
        variable.assign(values(slim, shapes[slim]).reshape(variable.shape))
    size = spec.preprocessing.size
    images = np.random.RandomState(0).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    grid, logits = keras.Model(network.model.input, [network.grid, network.model.output]).predict_on_batch(images)
    tolerance = 1e-4 * facts["deviation"]
    assert np.abs(logits[:, :12] - facts["logits"]).max() < tolerance
    assert logits.argmax(axis=1).tolist() == facts["largest"]
    assert abs(logits.mean() - facts["mean"]) < tolerance
    assert abs(logits.std() - facts["deviation"]) < tolerance
    return grid
