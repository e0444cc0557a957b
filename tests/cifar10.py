"""Small CIFAR-10s in the real formats: the batches as Python 2 pickled them, and the archive."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
FOLDER = "cifar-10-batches-py"

Records = npt.NDArray[np.uint8]


def drawn(records: int, seed: int = 0) -> dict[str, Records]:
    """uint8 [records, 1 + 3072] for every batch: all classes in turn, each of a colour and with noise of its own."""
    random = np.random.default_rng(seed)
    batches = {}
    for batch in BATCHES:
        labels = random.permutation(np.arange(records) % len(NAMES)).astype(np.uint8)
        colours = np.random.default_rng(7).integers(30, 226, (len(NAMES), 3, 1, 1))
        pictures = colours[labels] + random.integers(-30, 30, (records, 3, 32, 32))
        batches[batch] = np.column_stack([labels, pictures.reshape(records, -1).astype(np.uint8)])
    return batches


def write_python(folder: Path, batches: dict[str, Records]) -> Path:
    """`folder`/cifar-10-batches-py."""
    made = folder / FOLDER
    made.mkdir(parents=True)
    (made / "batches.meta").write_bytes(python2_pickle(
        {b"num_cases_per_batch": 10000, b"label_names": [name.encode() for name in NAMES], b"num_vis": 3072}))
    for name, records in batches.items():
        (made / name).write_bytes(python2_pickle({
            b"batch_label": b"a batch", b"labels": records[:, 0].tolist(),
            b"data": np.ascontiguousarray(records[:, 1:]),
            b"filenames": [f"picture_s_{number:06}.png".encode() for number in range(len(records))]}))
    (made / "readme.html").write_text("<a href='http://www.cs.toronto.edu/~kriz/cifar.html'>")
    return made


def pack(folder: Path, archive: Path, more: dict[str, bytes] | None = None) -> Path:
    """`folder` as .tar.gz, and `more` members under the names given."""
    with tarfile.open(archive, "w:gz") as out:
        out.add(folder, folder.name)
        for name, content in (more or {}).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return archive


def python2_pickle(content: Any) -> bytes:
    """As Python 2 and NumPy 1 wrote it, protocol 2: bytes are its plain strings, which Python 3 does not write."""
    out = io.BytesIO()
    _Python2Pickler(out, protocol=2).dump(content)
    return out.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_bytes(self, content: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(content)

    def save_text(self, content: str) -> None:
        self.save_bytes(content.encode("latin1"))

    dispatch[bytes] = save_bytes
    dispatch[str] = save_text
