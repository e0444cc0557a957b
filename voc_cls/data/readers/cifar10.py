"""CIFAR-10 as its authors give it (https://www.cs.toronto.edu/~kriz/cifar.html), python or binary version.

    cifar-10-batches-py/{batches.meta,data_batch_1..5,test_batch}               pickled dictionaries of NumPy arrays
    cifar-10-batches-bin/{batches.meta.txt,data_batch_1..5.bin,test_batch.bin}  records of 1 + 3,072 bytes

A record is the class's number and a picture of 32 × 32 pixels: its red, its green, its blue plane, each row by row. All
other code takes picture files, so the pictures are unpacked once, as PNG, which loses nothing. The cache's folder for a
batch is named by the digest of its records: both versions give the same files.
"""

from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.readers.cifar10_files import PYTHON, open_files
from voc_cls.data.readers.class_names import class_problem
from voc_cls.data.readers.split_scan import Scanned
from voc_cls.errors import DataError
from voc_cls.files import write_aside
from voc_cls.image_header import ImageHeader
from voc_cls.paths import cache_folder
from voc_cls.pickles import load_pickle

SPLITS = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
"""The official ones; complete, they have 50,000 and 10,000 pictures."""
SIDE = 32
PIXELS = 3 * SIDE * SIDE
CLASSES = 10
PART = 500
"""Pictures that a thread takes at a time."""
BLOCK = 4096
"""Bytes on the disk that a file takes at least, on most file systems; such a PNG has some 2,500."""

Records = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Batch:
    """The records uint8 [N, 1 + 3072] of one file."""

    name: str
    records: Records


def scan_cifar10(root: Path, split: str) -> Scanned:
    """Reads an official split from the folder of either version, the folder above it, or its .tar.gz.

    The batches may have any number of records. Raises DataError for files that are missing, cut, damaged or foreign,
    and where the cache ($VOC_CACHE_DIR) has no room.
    """
    if split not in SPLITS:
        raise DataError(f"{root}: there is no split {split!r}; the splits of CIFAR-10 are: {', '.join(SPLITS)}")
    files = open_files(root, SPLITS[split])
    python = files.version is PYTHON
    classes = _python_classes(files.meta, files.where("")) if python else _binary_classes(files.meta, files.where(""))
    read = _python_records if python else _binary_records
    batches = [Batch(name, read(content, files.where(name))) for name, content in files.batches.items()]
    for batch in batches:
        if batch.records[:, 0].max() >= len(classes):
            raise DataError(f"{files.where(batch.name)}: has the class {batch.records[:, 0].max()}, CIFAR-10's end at "
                            f"{len(classes) - 1}; it is damaged or of another data set")
    paths = unpack(batches)
    numbers = np.concatenate([batch.records[:, 0] for batch in batches])
    labels = np.eye(len(classes), dtype=np.float32)[numbers]
    dataset = Dataset(f"CIFAR-10 {split}", classes, paths, labels, np.zeros(labels.shape, bool),
                      task=Task.SINGLE_LABEL)
    return Scanned(dataset, (ImageHeader("PNG", SIDE, SIDE),) * len(paths))


def unpack(batches: list[Batch]) -> tuple[Path, ...]:
    """The pictures as PNG files in the cache, in their order.

    Every file that is there is compared with its record, and written anew, aside, where it differs.
    """
    folder = cache_folder().absolute() / "cifar10"
    work = []
    for batch in batches:
        below = folder / hashlib.sha256(batch.records.tobytes()).hexdigest()
        digits = len(str(len(batch.records) - 1))
        work += [(below / f"{batch.name}-{number:0{digits}}.png", record)
                 for number, record in enumerate(batch.records)]
    try:
        for below in {path.parent for path, _ in work}:
            below.mkdir(parents=True, exist_ok=True)
        _write_missing(work)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}, while unpacking {len(work):,} pictures that need some "
                        f"{len(work) * BLOCK / 1e6:.0f} MB; make room there, or name another folder in VOC_CACHE_DIR"
                        ) from error
    return tuple(path for path, _ in work)


def _write_missing(work: list[tuple[Path, Records]]) -> None:
    """Writes the files that are not there as they should be, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console, parts = Console(stderr=True), [work[start:start + PART] for start in range(0, len(work), PART)]
    bar = Progress(TextColumn("unpack CIFAR-10"), BarColumn(), MofNCompleteColumn(), TextColumn("pictures"),
                   TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
    with bar as progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = progress.add_task("", total=len(work))
        for _ in pool.map(_write_part, parts):
            progress.advance(task, PART)


def _write_part(work: list[tuple[Path, Records]]) -> None:
    for path, record in work:
        if not _is_there(path, record):
            _write(path, record)


def _picture(record: Records) -> Records:
    """[32, 32, 3], blue first, as OpenCV has it."""
    return np.ascontiguousarray(record[1:].reshape(3, SIDE, SIDE).transpose(1, 2, 0)[:, :, ::-1])


def _is_there(path: Path, record: Records) -> bool:
    import cv2

    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except FileNotFoundError:
        return False
    found = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    return found is not None and np.array_equal(found, _picture(record))


def _write(path: Path, record: Records) -> None:
    import cv2

    content = cv2.imencode(".png", _picture(record))[1].tobytes()
    write_aside(path, lambda aside: aside.write_bytes(content))


def _python_records(content: bytes, where: str) -> Records:
    batch = load_pickle(io.BytesIO(content), where, encoding="bytes", error=DataError)
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= set(batch):
        found = f"a dictionary with {_named(batch)}" if isinstance(batch, dict) else f"a {type(batch).__name__}"
        raise DataError(f"{where}: holds {found}, a batch of CIFAR-10 one with b'data' and b'labels'; is it of another "
                        "data set?")
    data, labels = batch[b"data"], batch[b"labels"]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (PIXELS,) or not len(data):
        found = f"{data.dtype} {list(data.shape)}" if isinstance(data, np.ndarray) else f"a {type(data).__name__}"
        raise DataError(f"{where}: its b'data' is {found} where uint8 [pictures, {PIXELS:,}] is expected; is it of "
                        "another data set?")
    if not isinstance(labels, list) or len(labels) != len(data):
        found = f"{len(labels):,} labels" if isinstance(labels, list) else "no list of labels"
        raise DataError(f"{where}: has {len(data):,} pictures and {found}; it is damaged, fetch it again")
    if not all(type(label) is int and 0 <= label < CLASSES for label in labels):
        raise DataError(f"{where}: has labels that are no numbers from 0 to {CLASSES - 1}; is it of another data set?")
    return np.column_stack([np.array(labels, np.uint8), np.asarray(data)])


def _binary_records(content: bytes, where: str) -> Records:
    if not content or len(content) % (1 + PIXELS):
        raise DataError(f"{where}: has {len(content):,} bytes, which is no multiple of {1 + PIXELS:,}, a record of "
                        "CIFAR-10; it is cut short or of another data set, fetch it again")
    return np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)


def _python_classes(content: bytes, where: str) -> tuple[str, ...]:
    meta = load_pickle(io.BytesIO(content), where, encoding="bytes", error=DataError)
    names = meta.get(b"label_names") if isinstance(meta, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise DataError(f"{where}: holds no list b'label_names', as that of CIFAR-10 does; is it of another data set?")
    return _checked_classes([name.decode("latin1") for name in names], where)


def _binary_classes(content: bytes, where: str) -> tuple[str, ...]:
    return _checked_classes(content.decode("latin1").split(), where)


def _checked_classes(names: list[str], where: str) -> tuple[str, ...]:
    if len(set(names)) != CLASSES or len(names) != CLASSES:
        raise DataError(f"{where}: names {len(set(names))} classes, CIFAR-10 has {CLASSES}; is it of another data set?")
    for name in names:
        if problem := class_problem(name):
            raise DataError(f"{where}: {problem}")
    return tuple(names)


def _named(batch: dict[object, object]) -> str:
    return ", ".join(repr(key) for key in list(batch)[:6]) or "nothing"
