"""Archives from strangers: unpacked by Python's own filter, or refused in one sentence."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.archives import packed
from voc_cls.downloads import unpack
from voc_cls.errors import DownloadError

LIMIT = 1_000_000
NOISE = np.random.default_rng(0).bytes(200_000)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_files_and_folders_are_unpacked_and_the_bytes_are_told(tmp_path: Path, mode: str):
    archive = packed(tmp_path / "set.tar", special("kit", tarfile.DIRTYPE), special("kit/empty", tarfile.DIRTYPE),
                     ("./kit/a.txt", b"aa"), ("kit/deep/er/b.txt", NOISE), mode=mode)
    told: list[int] = []
    unpack(archive, tmp_path / "out", LIMIT, told.append)
    assert files_in(tmp_path / "out") == {"kit/a.txt": b"aa", "kit/deep/er/b.txt": NOISE}
    assert (tmp_path / "out/kit/empty").is_dir()
    assert sum(told) == 2 + len(NOISE)


def test_what_is_unpacked_belongs_to_whoever_unpacks_it(tmp_path: Path):
    info = tarfile.TarInfo("kit/a.txt")
    info.mode, info.uid, info.uname = 0o6777, 12345, "somebody"
    unpack(packed(tmp_path / "set.tar", info), tmp_path / "out", LIMIT)
    status = (tmp_path / "out/kit/a.txt").stat()
    assert (status.st_uid, status.st_mode & 0o6022) == (os.getuid(), 0)


@pytest.mark.parametrize(("bad", "message"), [
    (("../evil.txt", b"x"), r"has '\.\./evil\.txt' in it, which leads out of the folder"),
    (("kit/../../evil.txt", b"x"), "which leads out of the folder"),
    (special("kit/link", tarfile.SYMTYPE, "/etc"), "has 'kit/link' in it, which is not a file or a folder"),
    (special("kit/hard", tarfile.LNKTYPE, "kit/good.txt"), "has 'kit/hard' in it, which is not a file or a folder"),
    (special("kit/null", tarfile.CHRTYPE), "which is not a file or a folder"),
    (special("kit/pipe", tarfile.FIFOTYPE), "which is not a file or a folder"),
    (("kit/large.bin", bytes(LIMIT)), "claims more than 1,000,000 bytes unpacked"),
])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_with_anything_odd_in_it_is_refused_and_nothing_is_written_elsewhere(
        tmp_path: Path, bad: tuple[str, bytes] | tarfile.TarInfo, message: str, mode: str):
    archive = packed(tmp_path / "evil.tar", ("kit/good.txt", b"good"), bad, mode=mode)
    with pytest.raises(DownloadError, match=rf"evil\.tar: .*{message}; fetch the official archive$"):
        unpack(archive, tmp_path / "out", LIMIT)
    assert files_in(tmp_path) == {"evil.tar": archive.read_bytes(), "out/kit/good.txt": b"good"}


def test_an_absolute_name_stays_in_the_folder(tmp_path: Path):
    unpack(packed(tmp_path / "set.tar", ("/a.txt", b"a")), tmp_path / "out", LIMIT)
    assert files_in(tmp_path / "out") == {"a.txt": b"a"}


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("voc_cls.downloads.MOST_MEMBERS", 2)
    with pytest.raises(DownloadError, match="has more than 2 files"):
        unpack(packed(tmp_path / "set.tar", *((name, b"") for name in "abc")), tmp_path / "out", LIMIT)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("kept", [0, 300, 100_000])
def test_half_an_archive_is_refused(tmp_path: Path, mode: str, kept: int):
    archive = packed(tmp_path / "half.tar", ("kit/a.bin", NOISE), ("kit/b.bin", NOISE), mode=mode)
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(DownloadError, match=r"half\.tar: is not a whole \.tar or \.tar\.gz \(.+\); fetch it again"):
        unpack(archive, tmp_path / "out", LIMIT)


@pytest.mark.parametrize("name", ["b.bin", "./b.bin"])
def test_one_file_of_an_archive_can_be_wanted_alone(tmp_path: Path, name: str):
    archive = packed(tmp_path / "set.tar.gz", ("../a", b"a"), (name, NOISE), ("kit/b.bin", b"c"), mode="w:gz")
    unpack(archive, tmp_path / "out", LIMIT, only="b.bin")
    assert files_in(tmp_path / "out") == {"b.bin": NOISE}
    with pytest.raises(DownloadError, match=r"has no c\.bin in it, only \.\./a, (\./)?b\.bin, kit/b\.bin"):
        unpack(archive, tmp_path / "out", LIMIT, only="c.bin")


@pytest.mark.parametrize("flipped", [-8, -100_000])
def test_the_checksum_of_a_gz_is_compared_even_where_one_file_is_wanted(tmp_path: Path, flipped: int):
    archive = packed(tmp_path / "set.tar.gz", ("a.bin", NOISE), mode="w:gz")
    content = bytearray(archive.read_bytes())
    content[flipped] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DownloadError, match=r"is not a whole \.tar or \.tar\.gz"):
        unpack(archive, tmp_path / "out", LIMIT, only="a.bin")
