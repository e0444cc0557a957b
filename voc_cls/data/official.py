"""The data sets that can be downloaded by name: their official archives, and how these get onto the disk.

Digests (SHA-256) and sizes are those that torchvision's prototype datasets, TensorFlow Datasets (url_checksums/voc.txt,
cifar10.txt) and Keras (datasets/cifar10.py) have for the same files.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from voc_cls.downloads import byte_bar, fetched, unpack
from voc_cls.errors import DataError, DownloadError, UsageError
from voc_cls.files import locked

if TYPE_CHECKING:
    from rich.console import Console

OXFORD = "http://host.robots.ox.ac.uk/pascal/VOC/"
TORONTO = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class OfficialArchive:
    """An archive, and what it leaves behind."""

    part: str
    """What the parameter `parts` calls it."""
    url: str
    size: int | None
    """Bytes; None where a mirror has packed it anew."""
    sha256: str
    unpacked: int
    """Bytes of its files, rounded up: for the look at the free disk space, and twice as much is a bomb."""
    proof: str
    """The file that is put into place last: where it stands, the archive has been unpacked."""

    @property
    def name(self) -> str:
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


def _voc(year: int, part: str, name: str, size: int, sha256: str, unpacked: int) -> OfficialArchive:
    return OfficialArchive(part, f"{OXFORD}voc{year}/{name}", size, sha256, unpacked,
                           f"VOCdevkit/VOC{year}/ImageSets/Main/{part}.txt")


OFFICIAL = {
    "voc2007": OfficialSet((
        _voc(2007, "trainval", "VOCtrainval_06-Nov-2007.tar", 460_032_000,
             "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508", 460_000_000),
        _voc(2007, "test", "VOCtest_06-Nov-2007.tar", 451_020_800,
             "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892", 451_000_000),
    ), "voc", "VOCdevkit/VOC2007", "--train-split trainval --eval-split test"),
    "voc2012": OfficialSet((
        _voc(2012, "trainval", "VOCtrainval_11-May-2012.tar", 1_999_639_040,
             "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb", 2_000_000_000),
    ), "voc", "VOCdevkit/VOC2012", "--train-split train --eval-split val"),  # VOC keeps the labels of its test pictures
    "cifar10": OfficialSet((
        OfficialArchive("python", f"{TORONTO}cifar-10-python.tar.gz", 170_498_071,
                        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce", 187_000_000,
                        "cifar-10-batches-py/batches.meta"),
    ), "cifar10", "cifar-10-batches-py", "--train-split train --eval-split test"),
}


def chosen_parts(official: OfficialSet, parts: Sequence[str]) -> tuple[OfficialArchive, ...]:
    """The archives with these names, all if there is none; UsageError names those that there are."""
    known = {archive.part: archive for archive in official.archives}
    for part in parts:
        if part not in known:
            raise UsageError(f"`parts` {part}: there is no such part; there is {' and '.join(known)}")
    return tuple(archive for part, archive in known.items() if not parts or part in parts)


def mirrored(archives: Sequence[OfficialArchive], url: str) -> tuple[OfficialArchive, ...]:
    """The same archives at another address: of the file itself, or of the folder that they are in."""
    if len(archives) > 1 and url.endswith(tuple(archive.name for archive in archives)):
        raise UsageError(f"`url` {url}: is the address of one archive, but {len(archives)} are wanted; give their "
                         f"folder, or name the part with `parts`")
    return tuple(replace(archive, url=url if url.endswith(archive.name) else f"{url.rstrip('/')}/{archive.name}")
                 for archive in archives)


def fetch_archive(archive: OfficialArchive, out: Path, local: Path | None = None,
                  say: Callable[[str], object] = lambda _: None, console: Console | None = None) -> None:
    """Downloads, checks and unpacks an archive, unless it is there; all of it gets into place or nothing that counts.

    out: folder for its files; made if it is missing. local: the archive, brought by hand; it is left as it is. say:
    takes what is worth telling a person. console: for progress bars, if it is a terminal. Raises DownloadError where
    the archive does not come, is damaged or another one; DataError where there is no room, or something is in the way.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out, lambda: _refuse_another(out)):
            if (out / archive.proof).exists():
                say(f"{archive.name}: is there already, as {out / archive.proof} shows")
                return
            # hidden names: a visible archive belongs to the user
            download, aside = out / f".{archive.name}", out / f".{archive.name}.unpacking"
            _check_space(archive, out, local or download)
            if local is None and not download.exists():
                size = "" if archive.size is None else f" {archive.size:,} bytes"
                say(f"{archive.name}: fetching{size} from {archive.url}")
            shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
            try:
                with fetched(archive.url, download, local, b"", archive.size, archive.sha256, console) as file:
                    say(f"{archive.name}: SHA-256 as expected, unpacking")
                    with byte_bar(f"unpack {archive.part}", archive.unpacked, console) as advance:
                        unpack(file, aside, 2 * archive.unpacked, advance)
                    if not (aside / archive.proof).is_file():
                        raise DownloadError(f"{file}: has no {archive.proof} in it, so it is another archive than "
                                            f"{archive.name}; fetch the official one")
                    put_into_place(aside, out, archive.proof)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{error.filename or out}: {error.strerror or error}, while putting {archive.name} there; "
                        "choose another folder with `out`") from error


def put_into_place(aside: Path, folder: Path, last: str) -> None:
    """Moves unpacked files from `aside` into the folder in which other archives of the same set may be already.

    `last`, such as a split's list, makes the rest count; it comes last, so after a kill it is missing. Raises DataError
    where another file has one of the names; then nothing is moved.
    """
    names = sorted(path.relative_to(aside) for path in aside.rglob("*") if path.is_file())
    names.sort(key=lambda name: name == Path(last))
    for name in names:
        target = folder / name
        if target.exists() and not (target.is_file() and filecmp.cmp(aside / name, target, shallow=False)):
            raise DataError(f"{target}: is there with other content than the archive's; remove it, or unpack into "
                            "another folder with `out`")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(aside / name, folder / name)


def _check_space(archive: OfficialArchive, out: Path, file: Path) -> None:
    """DataError where the disk has no room for what is still to be written."""
    part = file.with_name(f"{file.name}.part")
    there = next((path.stat().st_size for path in (file, part) if path.exists()), 0)
    needed = archive.unpacked + max(0, (archive.size or archive.unpacked) - there)
    free = shutil.disk_usage(out).free
    if free < needed:
        raise DataError(f"{out}: has {free / 1e9:.1f} GB free, but {archive.name} and what it unpacks to need "
                        f"{needed / 1e9:.1f} GB; make room, or choose another folder with `out`")


def _refuse_another(folder: Path) -> NoReturn:
    raise DataError(f"{folder}: another voc-data download writes into it; wait until it is done")
