"""Verifying the port: our network against TF-Slim's on the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from voc_cls.errors import UsageError, WeightsError
from voc_cls.nets.registry import NetSpec, net_spec
from voc_cls.nets.shapes import slim_shapes
from voc_cls.weights.diff import shortened
from voc_cls.weights.formats import tf_checkpoint
from voc_cls.weights.restore import read_weights
from voc_cls.weights.slim_reference import GRIDS, MOVING, Array, Outputs, filler
from voc_cls.weights.tensors import WeightFile, arrays_file

if TYPE_CHECKING:
    from voc_cls.nets.network import Network

TOLERANCE = 1e-4
"""Largest difference that counts as equal, relative: max|port − TF-Slim| / max|TF-Slim|. Two orders of summation in
float32 through 16 layers differ by about 1e-6; a wrong channel order or padding by more than 1e-2."""
IMAGES = 3
SEED = 0
MOST_LAYERS = 24
"""That are listed by name."""


@dataclass(frozen=True)
class Comparison:
    """One output of both networks. `on_file_values`: every variable it depends on came from the file."""

    output: str
    difference: float
    """max|port − TF-Slim| / max|TF-Slim|; of several tensors the largest."""
    largest: float
    """max|TF-Slim|."""
    on_file_values: bool

    @property
    def equal(self) -> bool:
        """Whether the difference is within TOLERANCE (NaN is not)."""
        return self.difference <= TOLERANCE


@dataclass(frozen=True)
class Verification:
    """How the port compares with TF-Slim on one file, or on random values."""

    file: str
    net: str
    classes: int
    size: int
    """Height and width of the images."""
    from_file: tuple[str, ...]
    """Layers that have the file's values, such as conv1/conv1_1."""
    filled: tuple[str, ...]
    """Layers that the file lacks; both sides got the same seeded values there."""
    comparisons: tuple[Comparison, ...]

    def check(self) -> None:
        """Raises WeightsError when an output differs."""
        for comparison in self.comparisons:
            if not comparison.equal:
                raise WeightsError(f"{self.file}: {comparison.output} of voc-cls' {self.net} differs from TF-Slim's by "
                                   f"{comparison.difference:.1e}, more than {TOLERANCE:.0e}: please report this")

    def __rich__(self) -> Group:
        """A table with a row per output, and which layers had whose values."""
        table = Table(box=None, pad_edge=False)
        for column in ("output", "relative difference", "largest value", "weights", ""):
            table.add_column(column)
        for row in self.comparisons:
            weights = "the file's" if row.on_file_values else "partly filled in" if self.from_file else "random"
            table.add_row(row.output, f"{row.difference:.1e}", f"{row.largest:.4g}", weights,
                          Text("equal", style="green") if row.equal else Text("differs", style="bold red"))
        lines = [f"from the file: {shortened(self.from_file, MOST_LAYERS)}"] if self.from_file else []
        if self.filled:
            where = "not in the file, the" if self.from_file else "the"
            lines.append(f"{where} same random values on both sides: {shortened(self.filled, MOST_LAYERS)}")
        title = Text(f"{self.file}: voc-cls' {self.net} against TF-Slim's, {IMAGES} pictures of {self.size} × "
                     f"{self.size}, {self.classes} classes")
        return Group(title, table, Text("\n".join(lines)))


def verify(checkpoint: Path | None, net: str = "vgg_16", image_size: int | None = None) -> Verification:
    """Runs both networks, with the paper's head, on the same images and compares the last grid and the logits.

    With batch normalisation also the logits of training mode (without dropout), and what that step adds to the moving
    means and variances. The classifier is the file's, TF-Slim's or our new one; it has the ImageNet classes where there
    is none. Both run on the CPU, so that only the code differs. VGG takes about 3 GB of memory.

    Args:
        checkpoint: of TF-Slim; None compares on random values.
        image_size: pixels; None: the network's own.

    Raises:
        WeightsError: for a file that cannot be read or that has a layer in another shape.
        UsageError: for a network that the package tf_slim does not have.
    """
    spec = net_spec(net, image_size)
    if net not in GRIDS:
        raise UsageError(f"`net` {net}: tf_slim has no such network to compare with; voc-cls' own tests compare ours "
                         "with what TF-Slim's repository computed")
    file = arrays_file(Path("random values"), "", {}) if checkpoint is None else tf_checkpoint.read(checkpoint)
    head, classes = _classifier(file, spec)
    images = random_images(spec)
    port = port_outputs(file, spec, head, classes, images)
    reference = _reference_outputs(file, spec, head, classes, images)
    if port.filled != reference.filled:
        raise WeightsError(f"{file.path.name}: TF-Slim misses {sorted(reference.filled - port.filled)} in it, voc-cls "
                           f"{sorted(port.filled - reference.filled)}: please report this")
    names = _variables(spec, head)
    filled = dict.fromkeys(_layer(name) for name in names if name in port.filled)
    given = dict.fromkeys(_layer(name) for name in names if _layer(name) not in filled)
    return Verification(file.path.name, net, classes, spec.preprocessing.size, tuple(given), tuple(filled),
                        compare_outputs(port, reference, spec))


def compare_outputs(port: Outputs, reference: Outputs, spec: NetSpec) -> tuple[Comparison, ...]:
    """The port beside TF-Slim, output by output."""
    whole = not port.filled
    behind = ("fc6", "fc7", "m_", spec.slim_head)  # what the last grid does not depend on
    backbone = all(name.partition("/")[2].startswith(behind) for name in port.filled)
    rows: dict[str, list[Comparison]] = {}
    for name, values in reference.arrays.items():
        _, moving, average = name.rpartition("/")
        output = f"{average.replace('_', ' ')}s" if moving else name
        on_file_values = whole if output.startswith("logits") else backbone
        rows.setdefault(output, []).append(_comparison(output, port.arrays.get(name), values, on_file_values))
    return tuple(Comparison(output, float(np.max([row.difference for row in same])),  # NaN if one is NaN
                            max(row.largest for row in same), same[0].on_file_values) for output, same in rows.items())


def port_outputs(file: WeightFile, spec: NetSpec, head: str, classes: int, images: Array) -> Outputs:
    """What the Keras network computes. head: the classifier's path in the file."""
    import keras
    import tensorflow as tf

    from voc_cls.nets.network import build

    with tf.device("CPU"):
        network = build(spec, "fc", classes)
        variables = {name.replace(f"/{spec.head}/", f"/{head}/"): variable
                     for name, variable in network.variables().items()}
        filled = frozenset(name for name, variable in variables.items()
                           if not _restored(file, network, name, variable))
        model = keras.Model(network.model.input, [network.grid, network.model.output])
        grid, logits = (np.asarray(output) for output in model(images))
        moving = {name: variable for name, variable in variables.items() if name.endswith(MOVING)}
        if not moving:
            return Outputs({"grid": grid, "logits": logits}, filled)
        for variable in moving.values():
            variable.assign(np.zeros(variable.shape, np.float32))
        for layer in network.model.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0
        trained = np.asarray(network.model(images, training=True))
    averages = {name: np.asarray(variable) for name, variable in moving.items()}
    return Outputs({"grid": grid, "logits": logits, "logits in training": trained, **averages}, filled)


def _restored(file: WeightFile, network: Network, name: str, variable: Any) -> bool:
    """Gives the variable the file's value, or a filler (False)."""
    shape, in_file = tuple(variable.shape), file.shapes.get(name)
    if in_file == shape:
        variable.assign(read_weights(file, name))
        return True
    if in_file is not None and not network.is_head(name):
        raise WeightsError(f"{file.path.name}: {name} is {list(in_file)}, where TF-Slim's {network.spec.name} has "
                           f"{list(shape)}: `voc-weights diff` says more")
    variable.assign(filler(name, shape))
    return False


def _reference_outputs(file: WeightFile, spec: NetSpec, head: str, classes: int, images: Array) -> Outputs:
    """The same of TF-Slim's, from its own process."""
    with tempfile.TemporaryDirectory(prefix="voc-cls-verify-") as folder:
        inputs, outputs = Path(folder) / "images.npy", Path(folder) / "outputs.npz"
        np.save(inputs, images)
        options = {"net": spec.name, "slim_head": spec.slim_head, "head": head, "classes": classes,
                   "checkpoint": str(file.path) if file.tensors else None}
        process = subprocess.run(
            [sys.executable, "-m", "voc_cls.weights.slim_reference", inputs, outputs, json.dumps(options)],
            capture_output=True, text=True, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            raise WeightsError(f"{file.path.name}: TF-Slim's {spec.name} could not be run on it ({lines[-1]})")
        return Outputs.load(outputs)


def random_images(spec: NetSpec) -> Array:
    """Random images, preprocessed: squares of 8 × 8 pixels, so that they are not mere noise."""
    preprocessing = spec.preprocessing
    size = preprocessing.size
    rough = np.random.default_rng(SEED).integers(0, 256, (IMAGES, -(-size // 8), -(-size // 8), 3))
    levels = np.kron(rough, np.ones((1, 8, 8, 1)))[:, :size, :size]
    images: Array = ((levels - preprocessing.mean) / preprocessing.std).astype(np.float32)
    return images


def _classifier(file: WeightFile, spec: NetSpec) -> tuple[str, int]:
    """The path of the file's classifier and its classes."""
    inputs = _variables(spec, spec.slim_head)[f"{spec.scope}/{spec.slim_head}/weights"][:-1]
    for head in (spec.slim_head, spec.head):
        shape = file.shapes.get(f"{spec.scope}/{head}/weights", ())
        if shape and shape[:-1] == inputs:
            return head, shape[-1]
    return spec.slim_head, spec.imagenet_classes


def _variables(spec: NetSpec, head: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the variables that both networks have, under the file's names."""
    return {name.replace(f"/{spec.slim_head}/", f"/{head}/"): shape for name, shape in slim_shapes(spec).items()
            if not name.startswith(f"{spec.scope}/AuxLogits/")}


def _comparison(output: str, port: Array | None, reference: Array, on_file_values: bool) -> Comparison:
    if port is None or port.shape != reference.shape:
        return Comparison(output, float("inf"), float("inf"), on_file_values)
    largest = float(np.abs(reference).max())
    return Comparison(output, float(np.abs(port - reference).max()) / (largest or 1.0), largest, on_file_values)


def _layer(name: str) -> str:
    """vgg_16/conv1/conv1_1/weights → conv1/conv1_1."""
    return name.partition("/")[2].rpartition("/")[0]
