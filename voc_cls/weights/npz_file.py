"""NumPy's .npz: a ZIP archive of arrays, such as the lectures' vgg16_weights.npz; read without `allow_pickle`."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voc_cls.errors import WeightsError
from voc_cls.weights.npy_header import NpyHeader, read_header, read_values, write_header
from voc_cls.weights.pieces import write_array
from voc_cls.weights.raw import RawFile, by_name
from voc_cls.weights.tensors import NUMBERS, Array, Outgoing, TensorInfo

MEMBER = ".npy"
LARGEST = 2**32
"""Bytes of one array: ten times the largest of the networks. A few megabytes of archive can unpack to any size."""
LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The earliest date of a ZIP archive: the same weights make the same file."""


def open_npz(path: Path) -> RawFile:
    """Opens an .npz file; WeightsError where it is damaged, or holds other things than arrays of numbers."""
    headers: dict[str, NpyHeader] = {}
    with _sentences(path), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        twice = [name for name, count in Counter(member.filename for member in members).items() if count > 1]
        if twice:
            raise ValueError(f"it has {twice[0]} twice")
        for member in members:
            if not member.filename.endswith(MEMBER):
                raise ValueError(f"it holds {member.filename}, which is no array")
            with archive.open(member) as stream:
                headers[member.filename.removesuffix(MEMBER)] = _checked(read_header(stream), member)
    tensors = by_name({name: TensorInfo(header.shape, header.dtype.name) for name, header in headers.items()})

    def read(name: str) -> Array:
        with _sentences(path), zipfile.ZipFile(path) as archive, archive.open(name + MEMBER) as stream:
            values = read_values(stream, read_header(stream))
            stream.read(1)  # at the end zipfile compares the checksum
            return values

    return RawFile(path, "NumPy .npz", tensors, read)


def write_npz(path: Path, outgoing: list[Outgoing]) -> None:
    """Writes an uncompressed .npz that `numpy.load` reads, one tensor at a time."""
    with zipfile.ZipFile(path, "w") as archive:
        for tensor in outgoing:
            with archive.open(zipfile.ZipInfo(tensor.name + MEMBER, LONG_AGO), "w", force_zip64=True) as member:
                write_header(member, tensor)
                write_array(member, tensor.read())


def _checked(header: NpyHeader, member: zipfile.ZipInfo) -> NpyHeader:
    if member.file_size > LARGEST:
        raise ValueError(f"{member.filename} unpacks to {member.file_size:,} bytes, more than the {LARGEST:,} of any "
                         "network")
    if header.dtype.name not in NUMBERS:
        raise ValueError(f"{member.filename} is of type {header.dtype.str}: only plain numbers are read")
    if header.start + header.nbytes != member.file_size:
        raise ValueError(f"{member.filename} is an array of {header.nbytes:,} bytes where "
                         f"{member.file_size - header.start:,} lie")
    return header


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, EOFError, OSError, KeyError, RuntimeError,
            NotImplementedError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise WeightsError(f"{path} cannot be read as an .npz archive of arrays ({reason}): fetch it again, or save it "
                           "anew with numpy.savez") from error
