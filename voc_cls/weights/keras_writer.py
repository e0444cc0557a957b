"""Keras' files written: the structure by h5py, then the values straight to where it put them, in pieces.

    .h5           what `keras.applications.VGG16(weights=None).load_weights` reads, of any Keras
    .weights.h5   the same for Keras 3
    .keras        what `keras.models.load_model` reads: the network too
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.nets.registry import NETS, NetSpec
from voc_cls.nets.shapes import slim_shapes
from voc_cls.weights.keras_archive import CONFIG, WEIGHTS, numbered
from voc_cls.weights.naming.keras import MODELS, in_order, recognise, rows
from voc_cls.weights.pieces import PIECE, write_array
from voc_cls.weights.raw import number_type
from voc_cls.weights.tensors import Outgoing, Shape, TensorInfo

TYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
ORDER = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
"""Keras reads a layer's variables by their number."""
MINUTES = 5
"""Longest time that Keras may take to describe a network."""
DESCRIBE = """
import importlib.util, json, os, sys
if importlib.util.find_spec("jax"):  # which Keras' NumPy backend needs: 300 MB instead of 780
    os.environ["KERAS_BACKEND"] = "numpy"
    sys.modules["tensorflow"] = None  # imported where it can be, for nothing here
import keras
name, classes = sys.argv[1], int(sys.argv[2])
top = dict(classes=classes, input_shape=(224, 224, 3)) if classes else dict(include_top=False)
with keras.StatelessScope(initialize_variables=False):  # no memory for values
    model = getattr(keras.applications, name)(weights=None, **top)
print(json.dumps({"keras": keras.__version__, "config": json.loads(model.to_json())}))
"""
"""Run in a process of its own, because importing Keras takes more memory than the largest tensor."""


def write_keras(path: Path, outgoing: list[Outgoing]) -> None:
    """Writes tensors that are called LAYER/VARIABLE; the suffix of `path` says in which of the three ways."""
    for tensor in outgoing:
        if tensor.info.dtype not in TYPES:
            raise WeightsError(f"{tensor.name} is of type {tensor.info.dtype}, which Keras' HDF5 files do not hold: "
                               "leave it out")
    layers: dict[str, list[Outgoing]] = {name: [] for name in in_order(_layer(tensor) for tensor in outgoing)}
    for tensor in sorted(outgoing, key=_place):
        layers[_layer(tensor)].append(tensor)
    if path.suffix == ".keras":
        _write_archive(path, layers)
    else:
        _write_hdf5(path, layers, numbers=path.name.endswith(".weights.h5"))


def _write_hdf5(path: Path, layers: dict[str, list[Outgoing]], numbers: bool) -> None:
    """`numbers`: layers by class and number as in Keras 3, else by name."""
    import h5py

    with h5py.File(path, "w", libver="earliest") as file:
        placed = list((_by_class if numbers else _by_layer)(file, layers))
        places = [(tensor, dataset.id.get_offset()) for tensor, dataset in placed if tensor.info.elements]
    with path.open("r+b") as stream:
        for tensor, offset in places:
            stream.seek(offset)
            write_array(stream, tensor.read())


def _by_layer(file: Any, layers: dict[str, list[Outgoing]]) -> Iterator[tuple[Outgoing, Any]]:
    file.attrs["layer_names"] = [name.encode() for name in layers]
    file.attrs["backend"] = b"tensorflow"
    file.attrs["keras_version"] = b"2.0.0"  # of the layout
    for name, tensors in layers.items():
        group = file.create_group(name)
        group.attrs["weight_names"] = [f"{tensor.name}:0".encode() for tensor in tensors]
        for tensor in tensors:
            yield tensor, _dataset(group, f"{tensor.name}:0", tensor)


def _by_class(file: Any, layers: dict[str, list[Outgoing]]) -> Iterator[tuple[Outgoing, Any]]:
    counted: dict[str, int] = {}
    for name, tensors in layers.items():
        kind = _class(tensors)
        number = counted[kind] = counted.get(kind, -1) + 1
        group = file.create_group(f"layers/{numbered(kind, number)}/vars")
        group.attrs["name"] = name
        for place, tensor in enumerate(tensors):
            yield tensor, _dataset(group, str(place), tensor)


def _dataset(group: Any, name: str, tensor: Outgoing) -> Any:
    """An empty dataset that has its place in the file already."""
    import h5py

    place, link = h5py.h5p.create(h5py.h5p.DATASET_CREATE), h5py.h5p.create(h5py.h5p.LINK_CREATE)
    place.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    place.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    link.set_create_intermediate_group(True)
    space = h5py.h5s.create_simple(tensor.info.shape) if tensor.info.shape else h5py.h5s.create(h5py.h5s.SCALAR)
    kind = h5py.h5t.py_create(number_type(tensor.info.dtype))
    return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, dcpl=place, lcpl=link))


def _write_archive(path: Path, layers: dict[str, list[Outgoing]]) -> None:
    described = _described(path, layers)
    weights = path.with_name(f"{path.name}.weights.h5")
    try:
        _write_hdf5(weights, layers, numbers=True)
        saved = {"keras_version": described["keras"],
                 "date_saved": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d@%H:%M:%S")}
        with zipfile.ZipFile(path, "w") as archive, weights.open("rb") as stream:
            archive.writestr("metadata.json", json.dumps(saved))
            archive.writestr(CONFIG, json.dumps(described["config"]))
            member = zipfile.ZipInfo(WEIGHTS)
            member.file_size = weights.stat().st_size
            with archive.open(member, "w") as into:
                while piece := stream.read(PIECE):
                    into.write(piece)
    finally:
        weights.unlink(missing_ok=True)


def _described(path: Path, layers: dict[str, list[Outgoing]]) -> dict[str, Any]:
    """Keras' own description of the network, after a check that these are all of its weights."""
    tensors = {tensor.name: tensor.info.shape for layer in layers.values() for tensor in layer}
    net = recognise(tensors)
    if net is None:
        raise WeightsError(f"{path.name}: a .keras file holds the network too, and these tensors are of none that "
                           f"keras.applications has ({', '.join(MODELS.values())}): write .h5")
    classes = tensors.get("predictions/bias", (0,))[0]
    expected = _expected(NETS[net], classes)
    names = expected.keys() | tensors.keys()
    if differing := sorted(name for name in names if expected.get(name) != tensors.get(name)):
        raise WeightsError(f"{path.name}: a .keras file holds the whole {MODELS[net]}, and {len(differing)} tensors "
                           f"are missing, too many or of another shape here, such as {differing[0]}: write .h5")
    done = subprocess.run([sys.executable, "-P", "-c", DESCRIBE, MODELS[net], str(classes)], text=True,
                          capture_output=True, check=False, timeout=60 * MINUTES)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise WeightsError(f"{path.name}: Keras cannot build its {MODELS[net]} ({reason}): write .h5")
    described: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return described


def _expected(spec: NetSpec, classes: int) -> dict[str, Shape]:
    """Name → shape of Keras' network; without its dense layers where there are no `classes`."""
    slim = {name: TensorInfo(shape, "float32") for name, shape in slim_shapes(spec, classes or 1).items()}
    tops = {row.slim.rpartition("/")[0] for row in rows(spec, slim) if row.layout.grid}
    return {tensor.name: tensor.info.shape for row in rows(spec, slim)
            if classes or row.slim.rpartition("/")[0] not in tops
            for tensor in row.outgoing(slim[row.slim], lambda: np.zeros(0))}


def _class(tensors: list[Outgoing]) -> str:
    """Keras' class of a layer with these variables."""
    variables = {tensor.name.rpartition("/")[2]: tensor.info.shape for tensor in tensors}
    if "gamma" in variables or "moving_mean" in variables:
        return "batch_normalization"
    return "conv2d" if len(variables.get("kernel", ())) == 4 else "dense"


def _place(tensor: Outgoing) -> int:
    """Where a variable stands among those of its layer."""
    variable = tensor.name.rpartition("/")[2]
    return ORDER.index(variable) if variable in ORDER else len(ORDER)


def _layer(tensor: Outgoing) -> str:
    return tensor.name.rpartition("/")[0] or tensor.name
