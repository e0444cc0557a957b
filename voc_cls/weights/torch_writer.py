"""PyTorch's .pth written: a ZIP archive that `torch.load(FILE, weights_only=True)` reads."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from voc_cls.errors import WeightsError
from voc_cls.weights.pieces import write_array
from voc_cls.weights.raw import number_type
from voc_cls.weights.tensors import Outgoing
from voc_cls.weights.torch_pickle import CLASSES, pickled

FOLDER = "archive"
FORMAT_VERSION = b"3\n"
ALIGNMENT = 64
"""Bytes; where PyTorch's own writer lets values start, so that they can be used from a mapped file."""
LOCAL_HEADER = 30
"""Bytes before the name of a member."""
PADDING = struct.Struct("<2sH")


def write_torch(path: Path, outgoing: list[Outgoing]) -> None:
    """Writes a state_dict, one tensor after another; each is asked for when its turn comes."""
    for tensor in outgoing:
        if tensor.info.dtype not in CLASSES:
            raise WeightsError(f"{tensor.name} is of type {tensor.info.dtype}, for which PyTorch has no storage: leave "
                               "it out")
    with path.open("wb") as stream, zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(_member("data.pkl"), pickled({tensor.name: tensor.info for tensor in outgoing}))
        archive.writestr(_member("byteorder"), b"little")
        for key, tensor in enumerate(outgoing):
            member = _member(f"data/{key}")
            member.file_size = tensor.info.elements * number_type(tensor.info.dtype).itemsize
            member.extra = _padding(stream.tell() + LOCAL_HEADER + len(member.filename))
            with archive.open(member, "w") as values:
                write_array(values, tensor.read())
        archive.writestr(_member("version"), FORMAT_VERSION)


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{FOLDER}/{name}")  # of 1980, so that the same weights are the same file


def _padding(position: int) -> bytes:
    """An extra field (called FB as PyTorch's) after which the values are aligned."""
    length = -(position + PADDING.size) % ALIGNMENT
    return PADDING.pack(b"FB", length) + b"\0" * length
