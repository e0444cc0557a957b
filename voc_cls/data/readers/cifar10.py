"""CIFAR-10 as its authors publish it (https://www.cs.toronto.edu/~kriz/cifar.html), in the Python version.

    cifar-10-batches-py/{batches.meta,data_batch_1..5,test_batch}     pickled dictionaries of NumPy arrays

or the same files in cifar-10-python.tar.gz. A record is the number of the class and an image of 32 × 32 pixels: its
red, its green and its blue plane, each row by row. All other code reads image files, so the images are unpacked once,
as PNG, which is lossless. The cache's folder for a batch is named by the digest of its records.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Mapping, Sequence
from itertools import chain
from multiprocessing.pool import ThreadPool
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.files import check_file, read_bytes
from voc_cls.data.readers.split_scan import Reader, SplitScan, class_problem
from voc_cls.downloads import unpack
from voc_cls.errors import DataError, DownloadError
from voc_cls.files import cache_folder, write_aside
from voc_cls.image_header import ImageHeader
from voc_cls.pickles import load_pickle

FOLDER, ARCHIVE, META = "cifar-10-batches-py", "cifar-10-python.tar.gz", "batches.meta"
BATCHES = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
"""Split → its files; they have 50,000 and 10,000 images."""
SIDE = 32
PIXELS = 3 * SIDE * SIDE
CLASSES = 10
BLOCK = 4096
"""Bytes that a file occupies at least, on most file systems; such a PNG has some 2,500."""
FILE_LIMIT, UNPACKED_LIMIT = 2**29, 2**31
"""Bytes that a file, and all of an archive, may have; the official ones have 31 and 187 MB."""
AGAIN = "fetch it again with `voc-data download cifar10`"
ANOTHER = f"is it of another data set, or damaged? Then {AGAIN}"
USAGE = f"`root` takes {FOLDER}, the folder above it, or {ARCHIVE}"

Records = npt.NDArray[np.uint8]
"""[N, 1 + 3072]: those of one file."""
logger = logging.getLogger(__name__)


class Cifar10Reader(Reader):
    """The official splits, from the folder, the folder above it, or its .tar.gz. Batches may have any size."""

    kind = "cifar10"
    splits = tuple(BATCHES)

    @staticmethod
    def matches(root: Path) -> bool:
        return root.name == ARCHIVE or (root / META).is_file() or (root / FOLDER / META).is_file()

    def _scan(self, split: str, *_: object) -> SplitScan:
        contents = _read_files(self.root, (META, *BATCHES[split]))
        (meta, meta_content), *batch_contents = contents.items()
        classes = _classes(meta_content, str(meta))
        batches = {path.name: _records(content, str(path)) for path, content in batch_contents}
        paths = _write_images(batches)
        labels = np.eye(len(classes), dtype=np.float32)[np.concatenate(list(batches.values()))[:, 0]]
        dataset = Dataset(f"CIFAR-10 {split}", classes, paths, labels, np.zeros(labels.shape, bool),
                          task=Task.SINGLE_LABEL)
        return SplitScan(split, dataset, (ImageHeader("PNG", SIDE, SIDE),) * len(paths))


def _read_files(root: Path, names: Sequence[str]) -> dict[Path, bytes]:
    """Path, for errors, → content of each of `names`, in their order; DataError where one cannot be read."""
    if root.is_dir():
        for folder in (root, root / FOLDER):
            if os.path.lexists(folder / META):
                return {folder / name: read_bytes(folder / name, FILE_LIMIT) for name in names}
        found = ", ".join(sorted(os.listdir(root))[:8]) or "nothing"
        hint = f"pass `root` {root / ARCHIVE}" if (root / ARCHIVE).exists() else USAGE
        raise DataError(f"{root}: is not a folder of CIFAR-10, it has no {META} (found: {found}); {hint}")
    if not root.exists():
        raise DataError(f"{root}: no such file or folder; {USAGE}")
    check_file(root)
    with TemporaryDirectory() as unpacked:
        try:
            unpack(root, Path(unpacked), UNPACKED_LIMIT)
        except DownloadError as error:
            raise DataError(f"{error} with `voc-data download cifar10`") from None
        for name in names:
            if not (Path(unpacked) / FOLDER / name).is_file():
                raise DataError(f"{root}: has no {FOLDER}/{name}; it is an incomplete download or another archive: "
                                f"{AGAIN}")
        return {root / FOLDER / name: (Path(unpacked) / FOLDER / name).read_bytes() for name in names}


def _write_images(batches: Mapping[str, Records]) -> tuple[Path, ...]:
    """Writes the images of `batches` (by name) as PNG files into the cache; returns their paths in their order.

    Every existing file is compared with its record, and replaced where it differs.
    """
    folder = cache_folder().absolute() / "cifar10"
    paths: list[Path] = []
    for name, records in batches.items():
        batch_folder = folder / hashlib.sha256(records.tobytes()).hexdigest()
        digits = len(str(len(records) - 1))
        paths += [batch_folder / f"{name}-{number:0{digits}}.png" for number in range(len(records))]
    logger.info("CIFAR-10: %s images below %s", f"{len(paths):,}", folder)
    try:
        for batch_folder in {path.parent for path in paths}:
            batch_folder.mkdir(parents=True, exist_ok=True)
        with ThreadPool() as pool:
            pool.starmap(_write_image, zip(paths, chain.from_iterable(batches.values()), strict=True))
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}, while unpacking {len(paths):,} pictures that need some "
                        f"{len(paths) * BLOCK / 1e6:.0f} MB; make room there, or choose another folder in VOC_CACHE_DIR"
                        ) from error
    return tuple(paths)


def _write_image(path: Path, record: Records) -> None:
    """Writes a file that is missing or differs from its record."""
    import cv2

    image = np.ascontiguousarray(record[1:].reshape(3, SIDE, SIDE).transpose(1, 2, 0)[:, :, ::-1])  # BGR for OpenCV
    content = np.frombuffer(path.read_bytes() if path.exists() else b"", np.uint8)
    written = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    if written is None or not np.array_equal(written, image):
        write_aside(path, lambda aside: aside.write_bytes(cv2.imencode(".png", image)[1].tobytes()))


def _records(content: bytes, where: str) -> Records:
    batch = load_pickle(io.BytesIO(content), where, encoding="bytes", error=DataError)
    data, labels = (batch.get(b"data"), batch.get(b"labels")) if isinstance(batch, dict) else (None, None)
    if not isinstance(data, np.ndarray) or not isinstance(labels, list):
        found = list(batch)[:6] if isinstance(batch, dict) else f"a {type(batch).__name__}"
        raise DataError(f"{where}: holds {found} where an array b'data' and a list b'labels' are expected; {ANOTHER}")
    if data.dtype != np.uint8 or data.shape[1:] != (PIXELS,) or not len(data) or len(labels) != len(data):
        raise DataError(f"{where}: its b'data' is {data.dtype} {list(data.shape)} with {len(labels):,} labels where "
                        f"uint8 [pictures, {PIXELS:,}] and as many labels are expected; {ANOTHER}")
    if not all(type(label) is int and 0 <= label < CLASSES for label in labels):
        raise DataError(f"{where}: has labels that are not numbers from 0 to {CLASSES - 1}; {ANOTHER}")
    return np.column_stack([np.array(labels, np.uint8), np.asarray(data)])


def _classes(content: bytes, where: str) -> tuple[str, ...]:
    meta = load_pickle(io.BytesIO(content), where, encoding="bytes", error=DataError)
    names = meta.get(b"label_names") if isinstance(meta, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise DataError(f"{where}: has no list b'label_names', as that of CIFAR-10 does; {ANOTHER}")
    classes = tuple(name.decode("latin1") for name in names)
    if len(set(classes)) != CLASSES or len(classes) != CLASSES:
        raise DataError(f"{where}: names {len(set(classes))} classes, CIFAR-10 has {CLASSES}; {ANOTHER}")
    if problems := [problem for name in classes if (problem := class_problem(name))]:
        raise DataError(f"{where}: {problems[0]}")
    return classes
