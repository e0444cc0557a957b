"""What TF-Slim's own graphs have and compute, recorded in slim_facts.json.

Of networks that the package tf_slim does not have, and of three that it has but that would take long to run.
"""

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
OUTPUTS: dict[str, dict[str, Any]] = _READ["outputs"]
"""Network that tf_slim has → its outputs for the values of filler(): the image size, and what `projection` gives."""


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


def projection(array: Array) -> tuple[float, float]:
    """A number that any change of the array changes, seeded weights times its values, and its largest value."""
    weights = np.random.RandomState(0).normal(0, 1 / np.sqrt(array.size), array.size)
    return float(weights @ array.ravel().astype(np.float64)), float(abs(array).max())


def check_outputs(net: str) -> None:
    """Asserts that `net` gives what tf_slim's network gave, in training too."""
    from voc_cls.nets.registry import net_spec
    from voc_cls.weights.verify import port_outputs, random_images

    spec = net_spec(net, OUTPUTS[net]["size"])
    _check_recorded(port_outputs(_filled(spec), spec, random_images(spec)), net)


def check_live(net: str, size: int) -> None:
    """Asserts that `net` gives what tf_slim's network gives, which is run beside it."""
    from voc_cls.nets.registry import net_spec
    from voc_cls.weights.verify import TOLERANCE, compare_outputs, port_outputs, random_images, reference

    spec = net_spec(net, size)
    images, values = random_images(spec), _filled(spec)
    ours, theirs = port_outputs(values, spec, images), reference(values, spec, images)
    rows = {row.output: row for row in compare_outputs(ours, theirs, spec)}
    trained = {"logits in training", "moving means", "moving variances"} if net != "alexnet_v2" else set()
    assert set(rows) == {"grid", "logits"} | trained
    for row in rows.values():
        assert row.difference <= TOLERANCE, row
        assert row.largest > 0
    if net in OUTPUTS:
        _check_recorded(theirs, net)


def _filled(spec: Any) -> dict[str, Array]:
    """A value for every variable, for five classes."""
    from voc_cls.weights.naming.slim import slim_shapes
    from voc_cls.weights.verify import filler

    return {name: filler(name, shape) for name, shape in slim_shapes(spec, 5).items() if "/AuxLogits/" not in name}


def _check_recorded(arrays: Mapping[str, Array], net: str) -> None:
    from voc_cls.weights.verify import TOLERANCE

    recorded = OUTPUTS[net]["arrays"]
    assert arrays.keys() == recorded.keys()
    for name, (theirs, largest) in recorded.items():
        assert abs(projection(arrays[name])[0] - theirs) <= TOLERANCE * largest, name
    assert max(largest for _, largest in recorded.values()) > 0


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
    from voc_cls.weights.naming.slim import slim_shapes

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
