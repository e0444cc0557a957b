"""Our network against TF-Slim's own on the same weights: nobody has to believe the port."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.nets.registry import NetSpec, net_spec
from voc_cls.nets.shapes import slim_shapes
from voc_cls.weights.formats import tf_checkpoint
from voc_cls.weights.restore import read_weights
from voc_cls.weights.slim_reference import MOVING, Array, Outputs, filler
from voc_cls.weights.tensors import WeightFile

if TYPE_CHECKING:
    from rich.console import Group

    from voc_cls.nets.network import Network

TOLERANCE = 1e-4
"""Largest difference that counts as equal, relative: max|ours − theirs| / max|theirs|. Two orders of summation in
float32 through 16 layers differ by about 1e-6; a wrong channel order or padding by more than 1e-2."""
PICTURES = 3
SEED = 0
MOST_LAYERS = 24
"""That are listed by name."""


@dataclass(frozen=True)
class Comparison:
    """One output of both networks. `on_file_values`: every variable it depends on came from the file."""

    output: str
    difference: float
    """max|ours − theirs| / max|theirs|; of several tensors the largest."""
    largest: float
    """max|theirs|."""
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
    """Height and width of the pictures."""
    from_file: tuple[str, ...]
    """Layers that have the file's values, such as conv1/conv1_1."""
    filled: tuple[str, ...]
    """Layers that the file lacks; both sides got the same seeded values there."""
    comparisons: tuple[Comparison, ...]

    @property
    def equal(self) -> bool:
        """Whether every output is equal."""
        return all(comparison.equal for comparison in self.comparisons)

    def check(self) -> None:
        """Raises WeightsError when an output differs."""
        for comparison in self.comparisons:
            if not comparison.equal:
                raise WeightsError(f"{self.file}: {comparison.output} of voc-cls' {self.net} differs from TF-Slim's by "
                                   f"{comparison.difference:.1e}, more than {TOLERANCE:.0e}: please report this")

    def __rich__(self) -> Group:
        """A table with a row per output, and which layers had whose values."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for column in ("output", "relative difference", "largest value", "weights", ""):
            table.add_column(column)
        for row in self.comparisons:
            weights = "the file's" if row.on_file_values else "partly filled in" if self.from_file else "random"
            table.add_row(row.output, f"{row.difference:.1e}", f"{row.largest:.4g}", weights,
                          Text("equal", style="green") if row.equal else Text("differs", style="bold red"))
        lines = [f"from the file: {_listed(self.from_file)}"] if self.from_file else []
        if self.filled:
            where = "not in the file, the" if self.from_file else "the"
            lines.append(f"{where} same random values on both sides: {_listed(self.filled)}")
        title = Text(f"{self.file}: voc-cls' {self.net} against TF-Slim's, {PICTURES} pictures of {self.size} × "
                     f"{self.size}, {self.classes} classes")
        return Group(title, table, Text("\n".join(lines)))


def verify(checkpoint: Path | None, net: str = "vgg_16", image_size: int | None = None) -> Verification:
    """Runs both networks, with the paper's head, on the same pictures and compares the last grid and the logits.

    With batch normalisation also the logits of training mode (without dropout), and what that step adds to the moving
    means and variances. checkpoint: None compares on random values. The classifier is the file's, TF-Slim's or our new
    one; it has the ImageNet classes where there is none. Both run on the CPU, so that only the code differs. VGG takes
    about 3 GB of memory. Raises WeightsError for a file that cannot be read or that has a layer in another shape.
    """
    spec = net_spec(net, image_size)
    opened = None if checkpoint is None else tf_checkpoint.read(checkpoint)
    head, classes = _classifier(opened, spec)
    pictures = random_pictures(spec)
    ours = port_outputs(opened, spec, head, classes, pictures)
    theirs = _reference_outputs(opened, spec, head, classes, pictures)
    if ours.filled != theirs.filled:
        raise WeightsError(f"{_name(opened)}: TF-Slim misses {sorted(theirs.filled - ours.filled)} in it, voc-cls "
                           f"{sorted(ours.filled - theirs.filled)}: please report this")
    wanted = _wanted(spec, head)
    lacking = dict.fromkeys(_layer(name) for name in wanted if name in ours.filled)
    given = dict.fromkeys(_layer(name) for name in wanted if _layer(name) not in lacking)
    return Verification(_name(opened), net, classes, spec.preprocessing.size, tuple(given), tuple(lacking),
                        compared(ours, theirs, spec))


def compared(ours: Outputs, theirs: Outputs, spec: NetSpec) -> tuple[Comparison, ...]:
    """Ours beside TF-Slim's, output by output."""
    whole = not ours.filled
    behind = ("fc6", "fc7", "m_", spec.slim_head)  # what the last grid does not depend on
    trunk = all(name.partition("/")[2].startswith(behind) for name in ours.filled)
    rows = [_comparison("grid", ours.grid, theirs.grid, trunk),
            _comparison("logits", ours.logits, theirs.logits, whole)]
    if not theirs.moving:
        return tuple(rows)
    rows.append(_comparison("logits in training", ours.trained_logits, theirs.trained_logits, whole))
    for kind in MOVING:
        names = [name for name in theirs.moving if name.endswith(kind)]
        each = [_comparison(kind, ours.moving.get(name), theirs.moving[name], trunk) for name in names]
        worst = max(each, key=lambda row: float("inf") if np.isnan(row.difference) else row.difference)
        rows.append(Comparison(f"{kind[1:].replace('_', ' ')}s", worst.difference, max(row.largest for row in each),
                               trunk))
    return tuple(rows)


def port_outputs(checkpoint: WeightFile | None, spec: NetSpec, head: str, classes: int, pictures: Array) -> Outputs:
    """What the Keras network computes. head: the classifier's path in the file."""
    import keras
    import tensorflow as tf

    from voc_cls.nets.network import build

    with tf.device("CPU"):
        network = build(spec, "fc", classes)
        names = {name.replace(f"/{spec.head}/", f"/{head}/"): variable
                 for name, variable in network.variables().items()}
        filled = frozenset(name for name, variable in names.items()
                           if not _restored(checkpoint, network, name, variable, spec))
        model = keras.Model(network.model.input, [network.grid, network.model.output])
        grid, logits = (np.asarray(output) for output in model(pictures))
        moving = {name: variable for name, variable in names.items() if name.endswith(MOVING)}
        if not moving:
            return Outputs(grid, logits, None, {}, filled)
        for variable in moving.values():
            variable.assign(np.zeros(variable.shape, np.float32))
        for layer in network.model.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0
        trained = np.asarray(network.model(pictures, training=True))
    return Outputs(grid, logits, trained, {name: np.asarray(variable) for name, variable in moving.items()}, filled)


def _restored(checkpoint: WeightFile | None, network: Network, name: str, variable: object, spec: NetSpec) -> bool:
    """Gives the variable the file's value, or a filler (False)."""
    shape = tuple(variable.shape)  # type: ignore[attr-defined]  # Keras ships no types
    found = None if checkpoint is None else checkpoint.shapes.get(name)
    if checkpoint is not None and found == shape:
        variable.assign(read_weights(checkpoint, name))  # type: ignore[attr-defined]
        return True
    if found is not None and not network.is_head(name):
        raise WeightsError(f"{_name(checkpoint)}: {name} is {list(found)}, where TF-Slim's {spec.name} has "
                           f"{list(shape)}: `voc-weights diff` says more")
    variable.assign(filler(name, shape))  # type: ignore[attr-defined]
    return False


def _reference_outputs(checkpoint: WeightFile | None, spec: NetSpec, head: str, classes: int,
                       pictures: Array) -> Outputs:
    """The same of TF-Slim's, from its own process."""
    with tempfile.TemporaryDirectory(prefix="voc-cls-verify-") as folder:
        inputs, outputs = Path(folder) / "pictures.npy", Path(folder) / "outputs.npz"
        np.save(inputs, pictures)
        file = [] if checkpoint is None else ["--checkpoint", str(checkpoint.path)]
        process = subprocess.run(
            [sys.executable, "-m", "voc_cls.weights.slim_reference", *file, "--net", spec.name, "--slim-head",
             spec.slim_head, "--head", head, "--classes", str(classes), "--pictures", str(inputs), "--out",
             str(outputs)],
            capture_output=True, text=True, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            raise WeightsError(f"{_name(checkpoint)}: TF-Slim's {spec.name} could not be run on it ({lines[-1]})")
        return Outputs.load(outputs)


def random_pictures(spec: NetSpec) -> Array:
    """Random pictures, preprocessed: squares of 8 × 8 pixels, so that they are no mere noise."""
    preprocessing = spec.preprocessing
    size = preprocessing.size
    rough = np.random.default_rng(SEED).integers(0, 256, (PICTURES, -(-size // 8), -(-size // 8), 3))
    levels = np.kron(rough, np.ones((1, 8, 8, 1)))[:, :size, :size]
    pictures: Array = ((levels - preprocessing.mean) / preprocessing.std).astype(np.float32)
    return pictures


def _classifier(checkpoint: WeightFile | None, spec: NetSpec) -> tuple[str, int]:
    """The path of the file's classifier and its classes."""
    wanted = _wanted(spec, spec.slim_head)[f"{spec.scope}/{spec.slim_head}/weights"]
    for head in (spec.slim_head, spec.head):
        shape = None if checkpoint is None else checkpoint.shapes.get(f"{spec.scope}/{head}/weights")
        if shape is not None and shape[:-1] == wanted[:-1]:
            return head, shape[-1]
    return spec.slim_head, spec.imagenet_classes


def _wanted(spec: NetSpec, head: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the variables that both networks have, under the file's names."""
    return {name.replace(f"/{spec.slim_head}/", f"/{head}/"): shape for name, shape in slim_shapes(spec).items()
            if not name.startswith(f"{spec.scope}/AuxLogits/")}


def _comparison(output: str, ours: Array | None, theirs: Array | None, on_file_values: bool) -> Comparison:
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return Comparison(output, float("inf"), float("inf"), on_file_values)
    largest = float(np.abs(theirs).max())
    return Comparison(output, float(np.abs(ours - theirs).max()) / largest, largest, on_file_values)


def _name(checkpoint: WeightFile | None) -> str:
    return "random values" if checkpoint is None else checkpoint.path.name


def _layer(name: str) -> str:
    """vgg_16/conv1/conv1_1/weights → conv1/conv1_1."""
    return name.partition("/")[2].rpartition("/")[0]


def _listed(layers: Collection[str]) -> str:
    names = list(layers)
    more = f" … ({len(names)} in all)" if len(names) > MOST_LAYERS else ""
    return ", ".join(names[:MOST_LAYERS if not more else MOST_LAYERS // 2]) + more
