"""Keras' files read, under the names `LAYER/kernel`, `LAYER/gamma` and so on, however the file spells them.

    .h5           layers by name, as keras.applications publishes its weights: Keras 1, 2 and 3
    .weights.h5   Keras 3: layers by class and number, their names as attributes
    .keras        a ZIP archive of config.json and such a file

No layer is built, and no code that a file may contain is run.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.weights.keras_archive import HDF5_START, ZIP_START
from voc_cls.weights.raw import RawFile, by_name, number_type, read_at
from voc_cls.weights.tensors import MOST_AXES, Array, TensorInfo

SECONDS = 60
"""Longest time that the structure of a file may take; ResNet-152's takes one or two."""
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # they only take memory here


def open_keras(path: Path) -> RawFile:
    """Opens a file of Keras'; WeightsError where it is damaged, or of another library."""
    with path.open("rb") as stream:
        start = stream.read(len(HDF5_START))
    if start != HDF5_START and not start.startswith(ZIP_START):
        raise WeightsError(f"{path} is neither HDF5 nor a .keras archive, or damaged at the start: fetch it again")
    kind, described = _index(path)
    size = path.stat().st_size
    tensors, places, swapped = {}, {}, set()
    for name, (shape, dtype, offset) in described.items():
        stored = number_type(dtype) if dtype == "bfloat16" else np.dtype(dtype)
        tensors[name], places[name] = TensorInfo(tuple(shape), stored.name), offset
        if len(shape) > MOST_AXES or offset + math.prod(shape) * stored.itemsize > size:
            raise WeightsError(f"{path}: {name[:80]} should have the shape {shape}, which is more than the file has: "
                               "it is damaged or cut short, fetch it again")
        if stored.str.startswith(">"):
            swapped.add(name)

    def read(name: str) -> Array:
        values = read_at(path, places[name], tensors[name])
        return values.byteswap(inplace=True) if name in swapped else values

    return RawFile(path, kind, by_name(tensors), read)


def _index(path: Path) -> tuple[str, dict[str, tuple[list[int], str, int]]]:
    """(format, name → shape, dtype and offset) from hdf5_index.py."""
    try:
        done = subprocess.run([sys.executable, "-P", "-m", "voc_cls.weights.hdf5_index", str(path.resolve())],
                              text=True, capture_output=True, check=False, timeout=SECONDS,
                              env={**os.environ, **THREADS})
    except subprocess.TimeoutExpired:
        raise WeightsError(f"{path}: the HDF5 library does not come to an end with it: it is damaged, fetch it "
                           "again") from None
    if done.returncode and "ModuleNotFoundError" in done.stderr:
        raise WeightsError(f"{path} is read with h5py, which is missing: pip install \"voc-cls[train]\"")
    if done.returncode:
        raise WeightsError(f"{path} is damaged: the HDF5 library breaks off at it; fetch it again")
    found = json.loads(done.stdout)
    if "error" in found:
        raise WeightsError(found["error"].replace(str(path.resolve()), str(path)))
    return found["format"], found["tensors"]
