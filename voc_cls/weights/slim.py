"""TF-Slim checkpoints in and out: a mapping from variable name to array, as files. TensorFlow is not imported.

Two formats are read, told apart by what lies on the disk:
    v1    one table file, such as the `vgg_16.ckpt` of TF-Slim's official archives (saved_slices.py)
    v2    `NAME.index` and `NAME.data-00000-of-00001`; the format that is written (bundle.py)
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from voc_cls.errors import WeightsError
from voc_cls.weights.bundle import open_bundle, write_bundle
from voc_cls.weights.saved_slices import open_saved_slices
from voc_cls.weights.table import is_table
from voc_cls.weights.tensors import Array, Outgoing, Shape, TensorInfo, tensors_digest
from voc_cls.weights.wire import Damaged

FORMATS_READ = "TF-Slim checkpoints are read: one v1 file, or NAME.index with NAME.data-00000-of-00001"
PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
SHARD = re.compile(r"\.data-\d{5}-of-\d{5}$")


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint. `tensors` is sorted by name; `read` gives one tensor at a time."""

    prefix: Path
    format: str
    """"TF-Slim checkpoint, v1" or v2."""
    tensors: Mapping[str, TensorInfo]
    _read: Callable[[str], Array] = field(repr=False, compare=False)

    @property
    def path(self) -> Path:
        """The prefix."""
        return self.prefix

    @property
    def shapes(self) -> dict[str, Shape]:
        """Name → shape."""
        return {name: info.shape for name, info in self.tensors.items()}

    def read(self, name: str) -> Array:
        """The tensor `name`; WeightsError when its bytes are missing or fail their checksum."""
        try:
            return self._read(name)
        except (Damaged, ValueError, OverflowError, MemoryError, OSError) as error:
            raise WeightsError(f"{self.prefix}: the tensor {name} cannot be read ({_reason(error)}); the download is "
                               "probably incomplete: fetch the file again") from error

    def digest(self) -> str:
        """`tensors_digest` of everything in the file."""
        return tensors_digest((name, self.read(name)) for name in self.tensors)


def open_checkpoint(path: Path) -> Checkpoint:
    """Opens the checkpoint that `path` means: its prefix, one of its files, or a folder that holds it alone.

    Raises WeightsError for a path that is none, a file of another format, and one that is cut short.
    """
    prefix = find_checkpoint(path)
    version = "v2" if _beside(prefix, ".index").is_file() else "v1"
    table = _beside(prefix, ".index") if version == "v2" else prefix
    if not is_table(table):
        raise WeightsError(f"{table} is no checkpoint, or only the beginning of one (its closing mark is missing): "
                           f"fetch it again; {FORMATS_READ}")
    try:
        if version == "v1":
            slices = open_saved_slices(prefix)
            tensors, read = slices.tensors, slices.read
        else:
            bundle = open_bundle(prefix)
            tensors, read = {name: entry.info for name, entry in bundle.entries.items()}, bundle.read
    except (Damaged, ValueError, OverflowError, MemoryError) as error:
        raise WeightsError(f"{prefix} cannot be read as a checkpoint ({_reason(error)}); fetch it again; "
                           f"{FORMATS_READ}") from error
    return Checkpoint(prefix, f"TF-Slim checkpoint, {version}", tensors, read)


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
    if not prefix.is_file():
        near = _checkpoints_in(path.parent) if path.parent.is_dir() else []
        raise WeightsError(f"{path}: no such checkpoint" + (f"; beside it: {', '.join(near)}" if near else ""))
    return prefix


def write_checkpoint(prefix: Path, tensors: Mapping[str, Array]) -> None:
    """Writes `tensors` as a v2 checkpoint, aside first; a kill leaves the old one, none, or the new one whole."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=prefix.parent, prefix=f".{prefix.name}-") as aside:
        write_bundle(Path(aside) / "new", [_outgoing(name, value) for name, value in tensors.items()])
        move_checkpoint(Path(aside) / "new", prefix)


def _outgoing(name: str, value: Array) -> Outgoing:
    dtype = "string" if value.dtype.kind in "OSU" else value.dtype.name
    return Outgoing(name, TensorInfo(value.shape, dtype), lambda: value)


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
    if moved and new.is_file():  # of version 1
        new.unlink()


def checkpoint_files(prefix: Path) -> list[Path]:
    """The files that are there of the checkpoint `prefix`, of whatever version."""
    return [file for file in (prefix, _beside(prefix, ".index"), *_shards(prefix)) if file.exists()]


def _beside(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)


def _shards(prefix: Path) -> list[Path]:
    if not prefix.parent.is_dir():
        return []
    return [file for file in prefix.parent.iterdir() if SHARD.sub("", file.name) == prefix.name != file.name]


def _checkpoints_in(folder: Path) -> list[str]:
    indexed = {file.name.removesuffix(".index") for file in folder.glob("*.index")}
    return sorted(indexed | {file.name for file in folder.iterdir() if file.suffix != ".index" and is_table(file)})


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
