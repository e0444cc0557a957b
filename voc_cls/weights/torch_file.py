"""PyTorch's .pth read: a pickle that names the tensors, and their values beside it; no code in it is ever run.

    zip       since PyTorch 1.6: NAME/data.pkl, and NAME/data/KEY for every storage
    stream    before, such as torchvision's vgg16-397923af.pth: four pickles, a list of keys, then the storages
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.pickles import load_pickle
from voc_cls.weights.pieces import PIECE
from voc_cls.weights.raw import RawFile, by_name, number_type, read_values
from voc_cls.weights.tensors import Array, TensorInfo
from voc_cls.weights.torch_pickle import Storage, StoredTensor, allowed_names, state_dict, storages_into

ZIP_START = b"PK\x03\x04"
STREAM_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The first pickle of a stream, 0x1950A86A20F9469CFC6C."""
STREAM_VERSION = 1001
"""The second."""
COUNT = struct.Struct("<q")


def open_torch(path: Path) -> RawFile:
    """Opens a state_dict; WeightsError where it is damaged, holds something else, or wants code to be run."""
    with path.open("rb") as stream:
        start = stream.read(len(STREAM_MAGIC))
    if start.startswith(ZIP_START):
        return _open_zip(path)
    if start == STREAM_MAGIC:
        return _open_stream(path)
    raise WeightsError(f"{path} is no file of torch.save, or damaged at the start: fetch it again, or save a "
                       "state_dict with torch.save")


def _open_zip(path: Path) -> RawFile:
    storages: dict[str, Storage] = {}
    with _damage(path), zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(members) != len(archive.infolist()) or len(pickles) != 1:
            raise WeightsError(f"{path} is a ZIP archive but none of torch.save (which has one data.pkl): save a "
                               "state_dict with torch.save")
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise WeightsError(f"{path} was compressed after PyTorch wrote it: load and save it again with torch.save")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") != b"little":
            raise WeightsError(f"{path} was saved on a big-endian machine: load and save it again with torch.save")
        with archive.open(pickles[0]) as stream:
            found = load_pickle(stream, str(path), allowed_names(), storages_into(storages))
    tensors = state_dict(path, found)
    for storage in storages.values():
        _check(path, storage, members.get(f"{folder}data/{storage.key}"))

    def read(name: str) -> Array:
        tensor = tensors[name]
        with _damage(path), zipfile.ZipFile(path) as archive, \
                archive.open(f"{folder}data/{tensor.storage.key}") as stream:
            value = _view(stream, tensor)
            while stream.read(PIECE):  # to its end, where the checksum is compared
                pass
            return value

    return RawFile(path, "PyTorch .pth", _infos(tensors), read)


def _open_stream(path: Path) -> RawFile:
    storages: dict[str, Storage] = {}
    with _damage(path), path.open("rb") as stream:
        stream.seek(len(STREAM_MAGIC))
        if load_pickle(stream, str(path)) != STREAM_VERSION:
            raise WeightsError(f"{path} is of another version of PyTorch's old format than {STREAM_VERSION}: load and "
                               "save it again with torch.save")
        load_pickle(stream, str(path))  # the sizes of C types where it was written
        tensors = state_dict(path, load_pickle(stream, str(path), allowed_names(), storages_into(storages)))
        places = _places(path, stream, load_pickle(stream, str(path)), storages)

    def read(name: str) -> Array:
        with path.open("rb") as stream:
            stream.seek(places[tensors[name].storage.key])
            return _view(stream, tensors[name])

    return RawFile(path, "PyTorch .pth (before 1.6)", _infos(tensors), read)


def _places(path: Path, stream: BinaryIO, keys: object, storages: Mapping[str, Storage]) -> dict[str, int]:
    """Key of a storage → where its values start; before them stands their number."""
    size = path.stat().st_size
    found: dict[str, int] = {}
    for key in keys if isinstance(keys, list) else []:
        storage = storages.get(key) if isinstance(key, str) else None
        (elements,) = COUNT.unpack(stream.read(COUNT.size))
        if storage is None or elements != storage.elements or key in found:
            raise WeightsError(f"{path}: the storage {str(key)[:40]} is not what the list of tensors says it is: the "
                               "file is damaged, fetch it again")
        found[key] = stream.tell()
        if found[key] + storage.bytes > size:
            raise WeightsError(f"{path} is cut short at {size:,} bytes: fetch it again")
        stream.seek(storage.bytes, 1)
    if missing := storages.keys() - found.keys():
        raise WeightsError(f"{path}: {len(missing)} of {len(storages)} storages are missing: fetch it again")
    return found


def _check(path: Path, storage: Storage, member: zipfile.ZipInfo | None) -> None:
    """Whether a storage is in the archive, as long as it should be, and within the file."""
    found = member.file_size if member and member.compress_size == member.file_size else -1
    if found != storage.bytes or found > path.stat().st_size:
        raise WeightsError(f"{path}: the storage {storage.key[:40]} should have {storage.bytes:,} bytes and "
                           f"{f'has {found:,}' if found >= 0 else 'is missing'}: fetch the file again")


def _infos(tensors: Mapping[str, StoredTensor]) -> dict[str, TensorInfo]:
    return by_name({name: TensorInfo(tensor.shape, tensor.storage.dtype) for name, tensor in tensors.items()})


def _view(stream: Any, tensor: StoredTensor) -> Array:
    """The values of a tensor, `stream` being at the start of its storage; only what it spans is held."""
    skip = tensor.offset * number_type(tensor.storage.dtype).itemsize
    while skip:
        skipped = len(stream.read(min(skip, PIECE)))
        if not skipped:
            raise EOFError("the storage ends before the tensor")
        skip -= skipped
    values = read_values(stream, (tensor.span,), tensor.storage.dtype)
    strides = [stride * values.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values, tensor.shape, strides)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turns what the reading of damaged bytes raises into a sentence."""
    try:
        yield
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error,
            OverflowError) as error:
        raise WeightsError(f"{path} is damaged or cut short ({str(error).rstrip('.')}): fetch it again") from error
