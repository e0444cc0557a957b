"""TF-Slim checkpoints in and out: a mapping from variable name to array, as files.

Two formats are read, told apart by what lies on the disk:
    v1    one table file, such as the `vgg_16.ckpt` of TF-Slim's official archives
    v2    `NAME.index` and `NAME.data-00000-of-00001`; the format that is written
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.errors import WeightsError

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

FORMATS_READ = "TF-Slim checkpoints are read: one v1 file, or NAME.index with NAME.data-00000-of-00001"
FOREIGN = {
    ".caffemodel": "a Caffe model",
    ".gz": "an archive",
    ".h5": "Keras HDF5",
    ".hdf5": "Keras HDF5",
    ".keras": "a Keras model",
    ".mat": "MATLAB",
    ".npy": "NumPy",
    ".npz": "NumPy",
    ".onnx": "ONNX",
    ".pb": "a TensorFlow graph",
    ".pt": "PyTorch",
    ".pth": "PyTorch",
    ".safetensors": "safetensors",
    ".tar": "an archive",
    ".tgz": "an archive",
    ".whl": "a Python wheel",
    ".zip": "an archive",
}
PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
SHARD = re.compile(r"\.data-\d{5}-of-\d{5}$")
TABLE_MAGIC = bytes.fromhex("57fb808b247547db")
"""The last 8 bytes of a v1 file and of a v2 index: kTableMagicNumber of tensorflow/core/lib/io/format.h."""


@dataclass(frozen=True)
class TensorInfo:
    """What a checkpoint says of a tensor without reading it; `dtype` is TensorFlow's name ("float32")."""

    shape: Shape
    dtype: str

    @property
    def elements(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint. `tensors` is sorted by name; `read` gives one tensor at a time."""

    prefix: Path
    format: str
    """"v1" or "v2"."""
    tensors: Mapping[str, TensorInfo]
    _reader: Any = field(repr=False, compare=False)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Name → shape."""
        return {name: info.shape for name, info in self.tensors.items()}

    def read(self, name: str) -> Array:
        """The tensor `name`; WeightsError when its bytes are missing or fail their checksum."""
        import tensorflow as tf

        try:
            return np.asarray(self._reader.get_tensor(name))
        except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
            raise WeightsError(f"{self.prefix}: the tensor {name} cannot be read ({_reason(error)}); the download is "
                               "probably incomplete: fetch the file again") from error

    def digest(self) -> str:
        """`tensors_digest` of everything in the file."""
        return tensors_digest((name, self.read(name)) for name in self.tensors)


def tensors_digest(tensors: Iterable[tuple[str, Array]]) -> str:
    """SHA-256 over names, dtypes, shapes and little-endian bytes, in the order given: the same in every file format."""
    digest = hashlib.sha256()
    for name, value in tensors:
        dtype = "string" if value.dtype == object else value.dtype.name
        digest.update(f"{name}\0{dtype}\0{list(value.shape)}\0".encode())
        for part in value.ravel() if value.dtype == object else [value]:  # object: strings
            digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).ravel().view(np.uint8).data)
    return digest.hexdigest()


def digest(checkpoint: Path) -> str:
    """`Checkpoint.digest` of the checkpoint at a path."""
    return open_checkpoint(checkpoint).digest()


def open_checkpoint(path: Path) -> Checkpoint:
    """Opens the checkpoint that `path` means: its prefix, one of its files, or a folder that holds it alone.

    Raises WeightsError for a path that is none, a file of another format, and one that is cut short.
    """
    import tensorflow as tf

    prefix = find_checkpoint(path)
    version = "v2" if _beside(prefix, ".index").is_file() else "v1"
    table = _beside(prefix, ".index") if version == "v2" else prefix
    if not _is_table(table):
        raise WeightsError(f"{table} is no checkpoint, or only the beginning of one (its closing mark is missing): "
                           f"fetch it again; {FORMATS_READ}")
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        dtypes = reader.get_variable_to_dtype_map()
        shapes = sorted(reader.get_variable_to_shape_map().items())
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{prefix} cannot be read as a checkpoint ({_reason(error)}); {FORMATS_READ}") from error
    tensors = {name: TensorInfo(tuple(shape), dtypes[name].name) for name, shape in shapes}
    return Checkpoint(prefix, version, tensors, reader)


def find_checkpoint(path: Path) -> Path:
    """The prefix of the checkpoint that `path` means (see `open_checkpoint`); WeightsError when there is none."""
    if path.is_dir():
        inside = _checkpoints_in(path)
        if len(inside) != 1:
            found = f"{len(inside)}: {', '.join(inside)}" if inside else "none"
            raise WeightsError(f"{path} is a folder, which should hold one checkpoint and holds {found}; name the file")
        return path / inside[0]
    prefix = Path(PART.sub("", str(path)))
    shards = _shards(prefix)
    if _beside(prefix, ".index").is_file():
        of = int(shards[0].name[-5:]) if shards else 1
        if len(shards) < of:
            raise WeightsError(f"{prefix}.index is there, but {len(shards)} of {of} {prefix.name}.data files: a "
                               "checkpoint is all of them together, copy the rest")
        return prefix
    if shards:
        raise WeightsError(f"{prefix}.data-… is there without {prefix.name}.index, which says what is in it: copy both")
    if path.is_file() and path.suffix.lower() in FOREIGN and not _is_table(path):
        raise WeightsError(f"{path} is {FOREIGN[path.suffix.lower()]}, which is not read yet; {FORMATS_READ}")
    if not prefix.is_file():
        near = _checkpoints_in(path.parent) if path.parent.is_dir() else []
        raise WeightsError(f"{path}: no such checkpoint" + (f"; beside it: {', '.join(near)}" if near else ""))
    return prefix


def write_checkpoint(prefix: Path, tensors: Mapping[str, Array]) -> None:
    """Writes `tensors` as a v2 checkpoint, aside first; a kill leaves the old one, none, or the new one whole."""
    import tensorflow as tf

    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=prefix.parent, prefix=f".{prefix.name}-") as aside, tf.device("CPU"):
        names = sorted(tensors)
        tf.raw_ops.SaveV2(prefix=str(Path(aside) / "new"), tensor_names=names, shape_and_slices=[""] * len(names),
                          tensors=[tf.convert_to_tensor(tensors[name]) for name in names])
        move_checkpoint(Path(aside) / "new", prefix)


def move_checkpoint(old: Path, new: Path) -> None:
    """Renames the files of the checkpoint `old` within one file system, in place of one that is called `new`.

    A kill leaves the old one, none, or the new one whole: at no moment is there an index with data of another.
    """
    _beside(new, ".index").unlink(missing_ok=True)
    for shard in _shards(new):
        shard.unlink()
    moved = [file.name.removeprefix(old.name) for file in _shards(old)]
    for suffix in [*moved, ".index"] if moved else [""]:
        os.replace(_beside(old, suffix), _beside(new, suffix))


def _beside(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)


def _shards(prefix: Path) -> list[Path]:
    if not prefix.parent.is_dir():
        return []
    return [file for file in prefix.parent.iterdir() if SHARD.sub("", file.name) == prefix.name != file.name]


def _checkpoints_in(folder: Path) -> list[str]:
    indexed = {file.name.removesuffix(".index") for file in folder.glob("*.index")}
    return sorted(indexed | {file.name for file in folder.iterdir() if file.suffix != ".index" and _is_table(file)})


def _is_table(file: Path) -> bool:
    if not file.is_file() or file.stat().st_size < len(TABLE_MAGIC):
        return False
    with file.open("rb") as stream:
        stream.seek(-len(TABLE_MAGIC), os.SEEK_END)
        return stream.read() == TABLE_MAGIC


def _reason(error: Exception) -> str:
    message = str(getattr(error, "message", error))
    return message.splitlines()[0].rstrip(".") if message else type(error).__name__
