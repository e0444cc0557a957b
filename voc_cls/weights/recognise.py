"""The formats of weight files: a table, and which of them a file is by its bytes, whatever its name says."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from voc_cls.errors import UsageError, WeightsError
from voc_cls.weights.slim import PART, checkpoint_files, move_checkpoint, open_checkpoint
from voc_cls.weights.table import is_table
from voc_cls.weights.tensors import WeightFile, Writer

START = 64
"""Bytes of a file that are looked at."""
LONGEST_HEADER = 100_000_000
"""Of safetensors, in bytes: a limit of that format."""


@dataclass(frozen=True)
class Format:
    """A kind of weight file. `write` writes at a path that does not exist yet, `move` renames what it wrote."""

    name: str
    """With its article: "a PyTorch file"."""
    suffixes: tuple[str, ...]
    """The first is what it should be called."""
    dialect: str
    """Whose names and layouts are written (weights/naming); empty: TF-Slim's own."""
    open: Callable[[Path], WeightFile]
    write: Writer
    takes_any_name: bool = False
    """Whether TF-Slim's names are written where the dialect has none, as of AlexNet in torchvision."""
    move: Callable[[Path, Path], object] = os.replace
    files: Callable[[Path], list[Path]] = lambda path: [path] if path.exists() else []
    """The files that are there under a name."""


def _in(module: str, function: str) -> Callable[..., Any]:
    """A function of a module of this package that is imported when it is called: h5py and onnx take their time."""
    return lambda *args: getattr(import_module(f"voc_cls.weights.{module}"), function)(*args)


SLIM = Format("a TF-Slim checkpoint", (".ckpt",), "", open_checkpoint, _in("bundle", "write_bundle"), True,
              move_checkpoint, checkpoint_files)
NPZ = Format("a NumPy .npz archive", (".npz",), "npz", _in("npz_file", "open_npz"), _in("npz_file", "write_npz"), True)
NPY = Format("a NumPy .npy file", (".npy",), "", _in("npy_file", "open_npy"), _in("npy_file", "write_npy"), True)
HDF5 = Format("a Keras HDF5 file", (".h5", ".hdf5"), "keras", _in("keras_file", "open_keras"),
              _in("keras_writer", "write_keras"))
KERAS = Format("a Keras model", (".keras",), "keras", _in("keras_file", "open_keras"),
               _in("keras_writer", "write_keras"))
TORCH = Format("a PyTorch file", (".pth", ".pt"), "torchvision", _in("torch_file", "open_torch"),
               _in("torch_writer", "write_torch"))
SAFETENSORS = Format("a safetensors file", (".safetensors",), "torchvision",
                     _in("safetensors_file", "open_safetensors"), _in("safetensors_file", "write_safetensors"), True)
ONNX = Format("an ONNX model", (".onnx",), "torchvision", _in("onnx_file", "open_onnx"),
              _in("onnx_file", "write_onnx"))
FORMATS = (SLIM, NPZ, NPY, HDF5, KERAS, TORCH, SAFETENSORS, ONNX)

STARTS = (  # the first bytes of a file → its format, or what it is instead of weights
    (b"\x93NUMPY", NPY),
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", TORCH),  # before PyTorch 1.6: its magic number, pickled
    (b"\x1f\x8b", "a gzip archive: unpack it and give the file in it"),
    (b"BZh", "a bzip2 archive: unpack it and give the file in it"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it and give the file in it"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: `git lfs pull` gets it"),
    (b"<", "a web page, probably the error that a server sent instead of the file: fetch it again"),
)


def recognise(path: Path) -> Format:
    """The format of the weights that `path` means; a path that is no file is taken for a checkpoint's prefix.

    WeightsError where the bytes are of no format, or of another than the suffix claims.
    """
    claimed = next((kind for kind in FORMATS if path.suffix.lower() in kind.suffixes), None)
    if not path.is_file() or PART.search(path.name):
        if claimed not in (None, SLIM) and not path.exists() and not checkpoint_files(path):
            raise WeightsError(f"{path}: no such file")
        return SLIM
    found = _by_bytes(path)
    if isinstance(found, str):
        raise WeightsError(f"{path} is {found}")
    if claimed is not None and found is None:
        if claimed is SLIM:
            return SLIM  # which says it best
        raise WeightsError(f"{path} is not {claimed.name}, or a damaged one: fetch it again")
    if claimed is not None and found is not None and claimed is not found:
        raise WeightsError(f"{path} is not {claimed.name} but {found.name}: call it {path.stem}{found.suffixes[0]}")
    return found or SLIM


def format_to_write(path: Path, name: str | None = None) -> Format:
    """The format called `name`, such as npz, else what the suffix of `path` says; UsageError lists the known ones."""
    suffix = f".{name.lower().lstrip('.')}" if name is not None else path.suffix.lower()
    known = next((kind for kind in FORMATS if suffix in kind.suffixes), None)
    if known is None:
        what = f"--to {name}" if name is not None else f"{path}"
        raise UsageError(f"{what}: no format of weights has this name; known are "
                         f"{', '.join(known for kind in FORMATS for known in kind.suffixes)}")
    return known


def _by_bytes(path: Path) -> Format | str | None:
    """A format, or what else it is, or nothing that is known."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(START)
    if start.startswith(b"PK"):
        return _zip(path)
    for mark, what in STARTS:
        if start.startswith(mark):
            return what
    if is_table(path):
        return SLIM
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and header <= min(size, LONGEST_HEADER):
        return SAFETENSORS
    if start[:1] == b"\x08" and path.suffix.lower() in ONNX.suffixes:  # field 1, ir_version: there is no magic number
        return ONNX
    return None


def _zip(path: Path) -> Format | str:
    """Which kind of ZIP archive a file is, by the names in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return ("only the beginning of a ZIP archive such as .npz, .keras or .pth (the list of its content at the end "
                "is missing or damaged): fetch it again")
    if "model.weights.h5" in names:
        return KERAS
    if any(name.endswith("/data.pkl") for name in names):
        return TORCH
    if any(name.endswith(".npy") for name in names):
        return NPZ
    return "a ZIP archive without weights that are known here: unpack it and give the file in it"
