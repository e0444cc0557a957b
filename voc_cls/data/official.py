"""The data sets that can be downloaded by name: their official archives, and how these get onto the disk.

Digests (SHA-256) and sizes are those that torchvision's prototype datasets, TensorFlow Datasets (url_checksums/voc.txt,
cifar10.txt) and Keras (datasets/cifar10.py) have for the same files; torchvision.datasets and CIFAR's own page have
their MD5, which stand beside them for whoever wants to look one up.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from voc_cls.data.unpack import put_into_place, unpack
from voc_cls.downloads import discard, download
from voc_cls.errors import DataError, DownloadError, UsageError

OXFORD = "http://host.robots.ox.ac.uk/pascal/VOC/"
TORONTO = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class OfficialArchive:
    """An archive, and what it leaves behind."""

    part: str
    """What `--parts` calls it."""
    url: str
    size: int | None
    """Bytes; None where a mirror has packed it anew."""
    sha256: str
    md5: str
    unpacked: int
    """Bytes of its files, rounded up: for the look at the free disk space, and twice as much is a bomb."""
    proof: str
    """The file that is put into place last: where it stands, the archive has been unpacked."""

    @property
    def name(self) -> str:
        """Its file name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class OfficialSet:
    """A data set by its name on the command line."""

    archives: tuple[OfficialArchive, ...]
    data: str
    """What `--data` takes."""
    root: str
    """What `--root` takes, below the folder it was unpacked into."""
    train: str
    """Flags of voc-train that choose the splits."""


def _voc(year: int, part: str, name: str, size: int, sha256: str, md5: str, unpacked: int) -> OfficialArchive:
    return OfficialArchive(part, f"{OXFORD}voc{year}/{name}", size, sha256, md5, unpacked,
                           f"VOCdevkit/VOC{year}/ImageSets/Main/{part}.txt")


OFFICIAL = {
    "voc2007": OfficialSet((
        _voc(2007, "trainval", "VOCtrainval_06-Nov-2007.tar", 460_032_000,
             "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
             "c52e279531787c972589f7e41ab4ae64", 460_000_000),
        _voc(2007, "test", "VOCtest_06-Nov-2007.tar", 451_020_800,
             "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
             "b6e924de25625d8de591ea690078ad9f", 451_000_000),
    ), "voc", "VOCdevkit/VOC2007", "--train-split trainval --eval-split test"),
    "voc2012": OfficialSet((
        _voc(2012, "trainval", "VOCtrainval_11-May-2012.tar", 1_999_639_040,
             "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
             "6cd6e144f989b92b3379bac3b3de84fd", 2_000_000_000),
    ), "voc", "VOCdevkit/VOC2012", "--train-split train --eval-split val"),  # VOC keeps the labels of its test pictures
    "cifar10": OfficialSet((
        OfficialArchive("python", f"{TORONTO}cifar-10-python.tar.gz", 170_498_071,
                        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                        "c58f30108f718f92721af3b95e74349a", 187_000_000, "cifar-10-batches-py/batches.meta"),
    ), "cifar10", "cifar-10-batches-py", "--train-split train --eval-split test"),
    "cifar10-binary": OfficialSet((
        OfficialArchive("binary", f"{TORONTO}cifar-10-binary.tar.gz", 170_052_171,
                        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                        "c32a1d4ab5d03f1284b67883e8d87530", 185_000_000, "cifar-10-batches-bin/batches.meta.txt"),
    ), "cifar10", "cifar-10-batches-bin", "--train-split train --eval-split test"),
}


def chosen_parts(official: OfficialSet, parts: Sequence[str]) -> tuple[OfficialArchive, ...]:
    """The archives with these names, all if there is none; UsageError names those that there are."""
    known = {archive.part: archive for archive in official.archives}
    for part in parts:
        if part not in known:
            raise UsageError(f"--parts {part}: there is no such part; there is {' and '.join(known)}")
    return tuple(archive for part, archive in known.items() if not parts or part in parts)


def mirrored(archives: Sequence[OfficialArchive], url: str) -> tuple[OfficialArchive, ...]:
    """The same archives at another address: of the file itself, or of the folder that they are in."""
    if len(archives) > 1 and url.endswith(tuple(archive.name for archive in archives)):
        raise UsageError(f"--url {url}: is the address of one archive, but {len(archives)} are wanted; give their "
                         f"folder, or name the part with --parts")
    return tuple(replace(archive, url=url if url.endswith(archive.name) else f"{url.rstrip('/')}/{archive.name}")
                 for archive in archives)


def fetch_archive(archive: OfficialArchive, out: Path, local: Path | None = None,
                  say: Callable[[str], object] = lambda _: None,
                  advance: Callable[[int], object] = lambda _: None) -> None:
    """Downloads, checks and unpacks `archive` into the folder `out`, unless it is there.

    local: the archive, brought by hand; it is left as it is. say: gets what is worth telling a person. advance: gets
    the bytes of each file that is unpacked. Whatever happens, `out` holds all of the archive or nothing that counts.
    DataError and DownloadError.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _alone(out):
            if (out / archive.proof).exists():
                say(f"{archive.name}: is there already, {out / archive.proof} stands for it")
                return
            file = local or out / f".{archive.name}"  # hidden: a visible one is somebody's, not ours
            _check_space(archive, out, file)
            if not file.exists():
                size = "" if archive.size is None else f" {archive.size:,} bytes"
                say(f"{archive.name}: fetching{size} from {archive.url}")
                download(archive.url, file, size=archive.size)
            _unpack_checked(archive, file, out, local is None, say, advance)
    except OSError as error:
        raise DataError(f"{error.filename or out}: {error.strerror or error}, while putting {archive.name} there; "
                        "choose another folder with --out") from error


def _unpack_checked(archive: OfficialArchive, file: Path, out: Path, ours: bool, say: Callable[[str], object],
                    advance: Callable[[int], object]) -> None:
    aside = out / f".{archive.name}.unpacking"
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
    try:
        try:
            _check_digest(archive, file)
            say(f"{archive.name}: SHA-256 as expected, unpacking")
            unpack(file, aside, 2 * archive.unpacked, advance)
            if not (aside / archive.proof).is_file():
                raise DataError(f"{file}: holds no {archive.proof}, so it is another archive than {archive.name}")
        except (DataError, DownloadError):
            if ours:  # the next call fetches it anew
                discard(file)
            raise
        put_into_place(aside, out, archive.proof)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    if ours:
        discard(file)


def _check_digest(archive: OfficialArchive, file: Path) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != archive.sha256.lower():
        expected = archive.sha256.lower() if archive.size is None else f"{archive.size:,} and {archive.sha256.lower()}"
        raise DownloadError(f"{file}: has {file.stat().st_size:,} bytes and the SHA-256 {found}, but {archive.name} "
                            f"has {expected}; it is damaged or another file, fetch it again")


def _check_space(archive: OfficialArchive, out: Path, file: Path) -> None:
    """DataError where the disk has no room for what is still to be written."""
    part = file.with_name(f"{file.name}.part")
    there = next((path.stat().st_size for path in (file, part) if path.exists()), 0)
    needed = archive.unpacked + max(0, (archive.size or archive.unpacked) - there)
    free = shutil.disk_usage(out).free
    if free < needed:
        raise DataError(f"{out}: has {free / 1e9:.1f} GB free, but {archive.name} and what it unpacks to need "
                        f"{needed / 1e9:.1f} GB; make room, or choose another folder with --out")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing into the same folder; DataError where one already does."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DataError(f"{folder}: another voc-data download writes into it; wait until it is done") from None
    finally:
        os.close(lock)
