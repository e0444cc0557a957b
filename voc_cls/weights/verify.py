"""Our network against TF-Slim's own on the same weight file: nobody has to believe the port."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from voc_cls.errors import WeightsError
from voc_cls.nets.registry import NetSpec, net_spec
from voc_cls.weights.imagenet import IMAGENET_CLASSES, imagenet_shapes
from voc_cls.weights.restore import read_weights
from voc_cls.weights.slim import Checkpoint, open_checkpoint
from voc_cls.weights.slim_reference import filler

if TYPE_CHECKING:
    from rich.console import Group

Array = npt.NDArray[np.float32]

TOLERANCE = 1e-4
"""Largest difference that counts as equal, relative: max|ours − theirs| / max|theirs|. Two orders of summation in
float32 through 16 layers differ by about 1e-6; a wrong channel order or padding by more than 1e-2."""
PICTURES = 3
SEED = 0


@dataclass(frozen=True)
class Comparison:
    """One output of both networks. `on_file_values`: every variable it depends on came from the file."""

    output: str
    difference: float
    """max|ours − theirs| / max|theirs|."""
    largest: float
    """max|theirs|."""
    on_file_values: bool

    @property
    def equal(self) -> bool:
        """Whether the difference is within TOLERANCE (NaN is not)."""
        return self.difference <= TOLERANCE


@dataclass(frozen=True)
class Verification:
    """How the port compares with TF-Slim on one file."""

    file: str
    net: str
    classes: int
    from_file: tuple[str, ...]
    """Layers that have the file's values, such as conv1_1."""
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
            table.add_row(row.output, f"{row.difference:.1e}", f"{row.largest:.4g}",
                          "the file's" if row.on_file_values else "partly filled in",
                          Text("equal", style="green") if row.equal else Text("differs", style="bold red"))
        lines = [f"from the file: {', '.join(self.from_file) or 'nothing'}"]
        if self.filled:
            lines.append(f"not in the file, the same random values on both sides: {', '.join(self.filled)}")
        title = Text(f"{self.file}: voc-cls' {self.net} against TF-Slim's, {PICTURES} pictures, {self.classes} classes")
        return Group(title, table, Text("\n".join(lines)))


def verify(checkpoint: Path, net: str = "vgg_16") -> Verification:
    """Runs both networks, with fc6, fc7 and a classifier, on the same pictures and compares pool5 and the logits.

    The classifier is the file's, TF-Slim's fc8 or our m_fc8; 1000 classes where it has none. Both run on the CPU, so
    that only the code differs. Takes about 3 GB of memory. Raises WeightsError for a file that cannot be read or that
    has a layer in another shape.
    """
    spec = net_spec(net)
    opened = open_checkpoint(checkpoint)
    head, classes = _classifier(opened, spec)
    size = spec.preprocessing.size
    rough = np.random.default_rng(SEED).integers(0, 256, (PICTURES, size // 8, size // 8, 3))
    pictures = np.kron(rough, np.ones((1, 8, 8, 1))).astype(np.float32) - np.array(spec.preprocessing.mean, np.float32)
    ours, filled = _run_ours(opened, spec, head, classes, pictures)
    theirs, filled_there = _run_reference(opened, spec, head, classes, pictures)
    if filled != filled_there:
        raise WeightsError(f"{opened.prefix}: TF-Slim misses {sorted(filled_there)} in it, voc-cls {sorted(filled)}")
    trunk_filled = any(name.split("/")[1] in spec.trunk_scopes for name in filled)
    comparisons = (_compared("pool5", ours[0], theirs[0], on_file_values=not trunk_filled),
                   _compared("logits", ours[1], theirs[1], on_file_values=not filled))
    kernels = [name for name in imagenet_shapes(spec) if name.endswith("/weights")]
    lacking = [_layer(name) for name in kernels if name.replace(f"/{spec.slim_head}/", f"/{head}/") in filled]
    given = [_layer(name) for name in kernels if _layer(name) not in lacking]
    return Verification(opened.prefix.name, net, classes, tuple(given), tuple(lacking), comparisons)


def _classifier(checkpoint: Checkpoint, spec: NetSpec) -> tuple[str, int]:
    """The scope of the file's classifier and its classes."""
    for head in (spec.slim_head, spec.head):
        shape = checkpoint.shapes.get(f"{spec.name}/{head}/weights")
        if shape is not None and len(shape) == 4 and shape[2] == 4096:
            return head, shape[-1]
    return spec.slim_head, IMAGENET_CLASSES


def _run_ours(checkpoint: Checkpoint, spec: NetSpec, head: str, classes: int,
              pictures: Array) -> tuple[tuple[Array, Array], frozenset[str]]:
    """((pool5, logits), names of the filled variables) of the Keras network."""
    import keras
    import tensorflow as tf

    from voc_cls.nets.network import build_network

    filled = set()
    with tf.device("CPU"):
        network = build_network(spec.name, "fc", classes)
        for ours, variable in network.variables().items():
            name = ours.replace(f"/{spec.head}/", f"/{head}/")
            shape, found = tuple(variable.shape), checkpoint.shapes.get(name)
            if found == shape:
                variable.assign(read_weights(checkpoint, name))
            elif found is None or network.is_head(name):
                variable.assign(filler(name, shape))
                filled.add(name)
            else:
                raise WeightsError(f"{checkpoint.prefix}: {name} is {list(found)}, where TF-Slim's {spec.name} has "
                                   f"{list(shape)}: `voc-weights diff` says more")
        outputs = keras.Model(network.model.input, [network.entries["fc6"], network.model.output])(pictures)
    pool5, logits = (np.asarray(output) for output in outputs)
    return (pool5, logits), frozenset(filled)


def _run_reference(checkpoint: Checkpoint, spec: NetSpec, head: str, classes: int,
                   pictures: Array) -> tuple[tuple[Array, Array], frozenset[str]]:
    """The same of TF-Slim's, from its own process."""
    with tempfile.TemporaryDirectory(prefix="voc-cls-verify-") as folder:
        inputs, outputs = Path(folder) / "pictures.npy", Path(folder) / "outputs.npz"
        np.save(inputs, pictures)
        process = subprocess.run(
            [sys.executable, "-m", "voc_cls.weights.slim_reference", "--checkpoint", str(checkpoint.prefix),
             "--net", spec.name, "--head", head, "--classes", str(classes), "--pictures", str(inputs),
             "--out", str(outputs)],
            capture_output=True, text=True, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            raise WeightsError(f"{checkpoint.prefix}: TF-Slim's {spec.name} could not be run on it ({lines[-1]})")
        with np.load(outputs) as results:
            return (results["pool5"], results["logits"]), frozenset(str(name) for name in results["filled"])


def _compared(output: str, ours: Array, theirs: Array, on_file_values: bool) -> Comparison:
    largest = float(np.abs(theirs).max())
    difference = float(np.abs(ours - theirs).max()) / largest if ours.shape == theirs.shape else float("inf")
    return Comparison(output, difference, largest, on_file_values)


def _layer(name: str) -> str:
    """vgg_16/conv1/conv1_1/weights → conv1_1."""
    return name.split("/")[-2]
