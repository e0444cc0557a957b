"""The formats of weight files: a table, and which of them a file is by its bytes, whatever its name says.

A format is a module with `read(path) -> WeightFile` and, unless it is only read, `write(path, tensors)`. Nothing in a
file is ever run.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from voc_cls.errors import UsageError, WeightsError
from voc_cls.weights.formats import arrays, keras, tf_checkpoint, torch
from voc_cls.weights.tensors import Array, WeightFile

LONGEST_HEADER = 100_000_000
"""Of safetensors, in bytes: a limit of that format."""


@dataclass(frozen=True)
class Format:
    """A kind of weight file."""

    name: str
    """With its article: "a PyTorch file"."""
    suffixes: tuple[str, ...]
    """The first is what it should be called."""
    scheme: str
    """Whose names and layouts are written (weights/naming); empty: TF-Slim's."""
    read: Callable[[Path], WeightFile]
    write: Callable[[Path, Mapping[str, Array]], None] | None
    """Writes at a path that does not exist yet; `move` then renames what it wrote. None: it is only read."""
    lacks: tuple[str, ...] = ("string",)
    """Types that it cannot hold."""
    takes_any_name: bool = False
    """Whether TF-Slim's names are written where the scheme has none, as of AlexNet in torchvision."""
    move: Callable[[Path, Path], object] = os.replace


TF_CHECKPOINT = Format("a TF-Slim checkpoint", (".ckpt",), "", tf_checkpoint.read, tf_checkpoint.write, (), True,
                       tf_checkpoint.move_checkpoint)
NPZ = Format("a NumPy .npz archive", (".npz",), "npz", arrays.read_npz, arrays.write_npz, ("string", "bfloat16"), True)
NPY = Format("a NumPy .npy file", (".npy",), "", arrays.read_npy, arrays.write_npy, ("string", "bfloat16"), True)
OWN_NPY = Format("a NumPy .npy file of the lecture's own VGG", (".vgg.npy",), "the lecture's own VGG", arrays.read_npy,
                 arrays.write_npy, ("string", "bfloat16"))
HDF5 = Format("a Keras HDF5 file", (".h5", ".hdf5"), "keras", keras.read, keras.write, ("string", "bfloat16", "bool"))
KERAS = Format("a Keras model", (".keras",), "keras", keras.read, keras.write, ("string", "bfloat16", "bool"))
TORCH = Format("a PyTorch file", (".pth", ".pt", ".ckpt"), "torchvision", torch.read, None)
SAFETENSORS = Format("a safetensors file", (".safetensors",), "torchvision", arrays.read_safetensors,
                     arrays.write_safetensors, takes_any_name=True)
ONNX = Format("an ONNX model", (".onnx",), "torchvision", arrays.read_onnx, None)
FORMATS = (TF_CHECKPOINT, NPZ, NPY, OWN_NPY, HDF5, KERAS, TORCH, SAFETENSORS, ONNX)

INSTEAD = {
    TORCH.name: "write .safetensors, which has the same names and which PyTorch loads by safetensors.torch.load_file",
    ONNX.name: "voc-export --format onnx writes the whole graph of a run; for weights alone write .safetensors",
}
"""What to do where a format is only read."""
STARTS = (  # the first bytes of a file → its format, or what it is instead of weights
    (b"\x93NUMPY", NPY),
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (torch.STREAM_MAGIC, TORCH),
    (b"\x1f\x8b", "a gzip archive: unpack it and give the file in it"),
    (b"BZh", "a bzip2 archive: unpack it and give the file in it"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it and give the file in it"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: `git lfs pull` gets it"),
    (b"<", "a web page, probably the error that a server sent instead of the file: fetch it again"),
)


def recognise(path: Path) -> Format:
    """The format of the weights that `path` means; a path that is not a file is taken for a checkpoint's prefix.

    WeightsError where the bytes are of no format, or of another than the suffix claims.
    """
    claimed = next((kind for kind in FORMATS if path.suffix.lower() in kind.suffixes), None)
    if not path.is_file() or tf_checkpoint.PART.search(path.name):
        if claimed not in (None, TF_CHECKPOINT) and not path.exists() and not tf_checkpoint.checkpoint_files(path):
            raise WeightsError(f"{path}: no such file; name a weight file, or fetch one with `voc-weights fetch`")
        return TF_CHECKPOINT
    actual = _by_bytes(path)
    if isinstance(actual, str):
        raise WeightsError(f"{path} is {actual}")
    if actual is None and claimed not in (None, TF_CHECKPOINT):
        raise WeightsError(f"{path} is not {claimed.name}, or a damaged one: fetch it again")
    if claimed is not None and actual is not None and path.suffix.lower() not in actual.suffixes:
        raise WeightsError(f"{path} is not {claimed.name} but {actual.name}: call it {path.stem}{actual.suffixes[0]}")
    return actual or TF_CHECKPOINT  # which says best what is wrong


def format_to_write(path: Path, name: str | None = None) -> Format:
    """The format called `name`, such as npz, else what the suffix of `path` says; UsageError lists the known ones."""
    suffix = f".{name.lower().lstrip('.')}" if name is not None else path.suffix.lower()
    what = f"`to` {name}" if name is not None else f"{path}"
    format_ = next((kind for kind in FORMATS if suffix in kind.suffixes), None)
    if format_ is None:
        raise UsageError(f"{what}: no format of weights has this name; known are "
                         f"{', '.join(known for kind in FORMATS if kind.write for known in kind.suffixes)}")
    if format_.write is None:
        raise UsageError(f"{what}: {format_.name} is read but not written; {INSTEAD[format_.name]}")
    return format_


def _by_bytes(path: Path) -> Format | str | None:
    """A format, or what else it is, or nothing that is known."""
    with path.open("rb") as stream:
        start = stream.read(64)
    if start.startswith(b"PK"):
        return _zip(path)
    for mark, what in STARTS:
        if start.startswith(mark):
            return what
    if tf_checkpoint.is_table(path):
        return TF_CHECKPOINT
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and header <= min(path.stat().st_size, LONGEST_HEADER):
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
    if keras.WEIGHTS in names:
        return KERAS
    if any(name.endswith("/data.pkl") for name in names):
        return TORCH
    if any(name.endswith(".npy") for name in names):
        return NPZ
    return "a ZIP archive without weights that are known here: unpack it and give the file in it"
