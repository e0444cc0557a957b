"""TF-Slim checkpoints, read and written by TensorFlow: a mapping from variable name to array, as files.

    v1    one file, such as the `vgg_16.ckpt` of TF-Slim's official archives; read only
    v2    `NAME.index` and `NAME.data-00000-of-00001`
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from voc_cls.console import import_tensorflow
from voc_cls.errors import WeightsError
from voc_cls.weights.tensors import Array, TensorInfo, WeightFile, damage_reported

MAGIC = bytes.fromhex("57fb808b247547db")
"""The last 8 bytes of a v1 file and of an index: kTableMagicNumber of tensorflow/core/lib/io/format.h."""
PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


def read(path: Path) -> WeightFile:
    """Opens the checkpoint that `path` means: its prefix, one of its files, or a folder that holds it alone.

    WeightsError where there is none, or it is damaged.
    """
    prefix = find_checkpoint(path)
    version = "v2" if _beside(prefix, ".index").is_file() else "v1"
    table = _beside(prefix, ".index") if version == "v2" else prefix
    if not is_table(table):
        raise WeightsError(f"{table} is not a checkpoint, or only the beginning of one (its closing mark is missing): "
                           "fetch it again; TF-Slim checkpoints are one v1 file, or NAME.index with "
                           "NAME.data-00000-of-00001")
    tf = import_tensorflow()
    with damage_reported(f"{prefix}"):
        reader = tf.train.load_checkpoint(str(prefix))
        dtypes = reader.get_variable_to_dtype_map()
        tensors = {name: TensorInfo(tuple(shape), dtypes[name].name)
                   for name, shape in reader.get_variable_to_shape_map().items()}

    def read_tensor(name: str) -> Array:
        value = reader.get_tensor(name)
        return np.asarray(value, object) if tensors[name].dtype == "string" else np.asarray(value)

    return WeightFile(prefix, f"TF-Slim checkpoint, {version}", tensors, read_tensor)


def write(prefix: Path, tensors: Mapping[str, Array]) -> None:
    """Writes a v2 checkpoint whose files do not exist yet, with the names as they are."""
    tf = import_tensorflow()
    names = sorted(tensors)  # the same weights are the same file
    with tf.device("CPU"):
        values = [tf.raw_ops.Identity(input=tensors[name]) for name in names]  # tf.constant copies twice
        tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)


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
    """The files that are there under the name `prefix`: of a checkpoint of whatever version, or of another format."""
    return [file for file in (prefix, _beside(prefix, ".index"), *_shards(prefix)) if file.exists()]


def find_checkpoint(path: Path) -> Path:
    """The prefix of the checkpoint that `path` means (see `read`); WeightsError when there is none."""
    if path.is_dir():
        inside = _checkpoints_in(path)
        if len(inside) != 1:
            names = f"{len(inside)}: {', '.join(inside)}" if inside else "none"
            raise WeightsError(f"{path} is a folder, which should hold one checkpoint and holds {names}; name the file")
        return path / inside[0]
    prefix = Path(PART.sub("", str(path)))
    shards = _shards(prefix)
    if _beside(prefix, ".index").is_file():
        count = int(shards[0].name[-5:]) if shards else 1
        if len(shards) < count:
            raise WeightsError(f"{prefix}.index is there, but {len(shards)} of {count} {prefix.name}.data files: a "
                               "checkpoint is all of them together, copy the rest")
        return prefix
    if shards:
        raise WeightsError(f"{prefix}.data-… is there without {prefix.name}.index, which says what is in it: copy both")
    if not prefix.is_file():
        near = ", ".join(_checkpoints_in(path.parent)) if path.parent.is_dir() else ""
        raise WeightsError(f"{path}: no such checkpoint; " + (f"beside it: {near}" if near else "correct it"))
    return prefix


def is_table(path: Path) -> bool:
    """Whether a file ends as a v1 checkpoint and an index do."""
    if not path.is_file() or path.stat().st_size < len(MAGIC):
        return False
    with path.open("rb") as stream:
        stream.seek(-len(MAGIC), os.SEEK_END)
        return stream.read() == MAGIC


def _beside(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)


def _shards(prefix: Path) -> list[Path]:
    return list(prefix.parent.glob(f"{glob.escape(prefix.name)}.data-?????-of-?????"))


def _checkpoints_in(folder: Path) -> list[str]:
    indexed = {file.name.removesuffix(".index") for file in folder.glob("*.index")}
    return sorted(indexed | {file.name for file in folder.iterdir() if file.suffix != ".index" and is_table(file)})
