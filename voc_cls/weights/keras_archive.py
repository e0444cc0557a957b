"""The archive that Keras calls .keras: config.json, and the weights as an HDF5 file that is read where it lies."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from voc_cls.errors import WeightsError
from voc_cls.weights.pieces import PIECE

HDF5_START, ZIP_START = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
"""The first bytes of the two kinds of file."""
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
LARGEST_CONFIG = 2**26
"""Bytes; ResNet-152's has half a million."""
LOCAL_HEADER = struct.Struct("<26xHH")


class Window(io.RawIOBase):
    """A part of a file as a file of its own, for reading."""

    def __init__(self, stream: BinaryIO, start: int, length: int) -> None:
        super().__init__()
        self.stream, self.start, self.length, self.position = stream, start, length, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of a file."""
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.length}[whence]
        return self.position

    def readinto(self, room: Any) -> int:
        """As of a file."""
        view = memoryview(room).cast("B")
        self.stream.seek(self.start + self.position)
        got = self.stream.readinto(view[:max(0, min(len(view), self.length - self.position))])  # type: ignore[attr-defined]
        self.position += got
        return int(got)


@contextmanager
def weights_member(path: Path) -> Iterator[str | Window]:
    """What h5py opens: the path of an HDF5 file, or the part of an archive that is one."""
    if not _is_archive(path):
        yield str(path)
        return
    with path.open("rb") as stream:
        with zipfile.ZipFile(stream) as archive:
            member = archive.getinfo(WEIGHTS)
        stream.seek(member.header_offset)
        start = member.header_offset + LOCAL_HEADER.size + sum(LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size)))
        yield Window(stream, start, member.file_size)


def layer_names(path: Path) -> dict[str, str] | None:
    """Place of a layer in the weights (layers/conv2d_1) → its name, from config.json; None where this is no archive.

    WeightsError where it is damaged or not Keras'. Every byte is read once, because only the archive has a checksum.
    """
    if not _is_archive(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if CONFIG not in members or WEIGHTS not in members:
                raise WeightsError(f"{path} is an archive but none of Keras' (which has {CONFIG} and {WEIGHTS}): save "
                                   "the model with model.save")
            if members[WEIGHTS].compress_type != zipfile.ZIP_STORED:
                raise WeightsError(f"{path} was compressed after Keras wrote it: load and save it again with Keras")
            with archive.open(WEIGHTS) as stream:
                while stream.read(PIECE):
                    pass
            if members[CONFIG].file_size > LARGEST_CONFIG:
                raise ValueError(f"its {CONFIG} is too large")
            return _names(json.loads(archive.read(CONFIG)))
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, EOFError, NotImplementedError,
            RuntimeError) as error:
        raise WeightsError(f"{path} is damaged or cut short ({str(error).rstrip('.')[:160]}): fetch it "
                           "again") from error


def _is_archive(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(ZIP_START)) == ZIP_START


def _names(config: Any) -> dict[str, str]:
    layers = config["config"].get("layers", []) if isinstance(config, dict) else []
    counted: dict[str, int] = {}
    found = {}
    for layer in layers:
        kind = snake_case(layer["class_name"])
        number = counted[kind] = counted.get(kind, -1) + 1
        found[f"layers/{numbered(kind, number)}"] = str(layer["config"]["name"])
    return found


def numbered(kind: str, number: int) -> str:
    """How Keras calls the layer `number` (from 0) of a class: conv2d, conv2d_1 …"""
    return f"{kind}_{number}" if number else kind


def snake_case(name: str) -> str:
    """Keras' own rule (keras/src/utils/naming.py): BatchNormalization → batch_normalization, Conv2D → conv2d."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
