"""Archives from strangers: unpacked whole, or refused before anything is written."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from voc_cls.data.unpack import put_into_place, unpack
from voc_cls.errors import DataError

LIMIT = 1_000_000
NOISE = np.random.default_rng(0).bytes(200_000)


def packed(file: Path, *members: tuple[str, bytes] | tarfile.TarInfo, mode: str = "w") -> Path:
    """An archive of (name, content) or ready TarInfos."""
    with tarfile.open(file, mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return file


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
    assert told == [2, len(NOISE)]


def test_what_is_unpacked_belongs_to_whoever_unpacks_it(tmp_path: Path):
    info = tarfile.TarInfo("kit/a.txt")
    info.mode, info.uid, info.uname = 0o6777, 12345, "somebody"
    unpack(packed(tmp_path / "set.tar", info), tmp_path / "out", LIMIT)
    status = (tmp_path / "out/kit/a.txt").stat()
    assert (status.st_uid, status.st_mode & 0o6111) == (os.getuid(), 0)


@pytest.mark.parametrize(("bad", "said"), [
    (("../evil.txt", b"x"), r"holds the name '\.\./evil\.txt', which leads out of the folder"),
    (("kit/../../evil.txt", b"x"), "which leads out of the folder"),
    (("/evil.txt", b"x"), "holds the name '/evil.txt', which leads out of the folder"),
    (("kit\\evil.txt", b"x"), "which leads out of the folder or is no plain name"),
    (("kit/e\x1bvil.txt", b"x"), "or is no plain name"),
    (special("kit/link", tarfile.SYMTYPE, "/etc"), "holds 'kit/link', a link, where only files and folders belong"),
    (special("kit/hard", tarfile.LNKTYPE, "kit/good.txt"), "holds 'kit/hard', a link"),
    (special("kit/null", tarfile.CHRTYPE), "holds 'kit/null', a device or a pipe"),
    (special("kit/pipe", tarfile.FIFOTYPE), "holds 'kit/pipe', a device or a pipe"),
    (("kit/good.txt", b"another"), "holds 'kit/good.txt' twice"),
    (("./kit//good.txt", b"another"), "holds 'kit//good.txt' twice|holds './kit//good.txt' twice"),
    (("kit/good.txt/evil.txt", b"x"), "inside of something that is a file itself"),
    (("kit/large.bin", bytes(LIMIT)), "claims more than 1,000,000 bytes"),
])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_with_anything_odd_in_it_is_refused_before_anything_is_written(
        tmp_path: Path, bad: tuple[str, bytes] | tarfile.TarInfo, said: str, mode: str):
    archive = packed(tmp_path / "evil.tar", ("kit/good.txt", b"good"), bad, mode=mode)
    with pytest.raises(DataError, match=rf"evil\.tar: .*({said}).*; nothing was unpacked, fetch the official archive"):
        unpack(archive, tmp_path / "out", LIMIT)
    assert list(tmp_path.iterdir()) == [archive]


def test_an_archive_without_a_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="holds no file"):
        unpack(packed(tmp_path / "none.tar", special("kit", tarfile.DIRTYPE)), tmp_path / "out", LIMIT)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("kept", [0, 300, 100_000])
def test_half_an_archive_is_refused_before_anything_is_written(tmp_path: Path, mode: str, kept: int):
    archive = packed(tmp_path / "half.tar", ("kit/a.bin", NOISE), ("kit/b.bin", NOISE), mode=mode)
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"half\.tar: is no whole \.tar or \.tar\.gz \(.+\); fetch it again"):
        unpack(archive, tmp_path / "out", LIMIT)
    assert list(tmp_path.iterdir()) == [archive]


def test_two_archives_of_a_set_come_to_lie_in_one_folder(tmp_path: Path):
    for part, names in (("one", ("kit/a", "kit/lists/one.txt", "kit/same")), ("two", ("kit/b", "kit/same"))):
        unpack(packed(tmp_path / f"{part}.tar", *((name, name.encode()) for name in names)), tmp_path / part, LIMIT)
        put_into_place(tmp_path / part, tmp_path / "out", "kit/lists/one.txt") if (tmp_path / "out").exists() else (
            (tmp_path / "out").mkdir(), put_into_place(tmp_path / part, tmp_path / "out", "kit/lists/one.txt"))
    assert files_in(tmp_path / "out") == {name: name.encode() for name in ("kit/a", "kit/b", "kit/lists/one.txt",
                                                                             "kit/same")}


def test_nothing_is_moved_where_another_file_is_in_the_way(tmp_path: Path):
    unpack(packed(tmp_path / "set.tar", ("kit/a", b"a"), ("kit/z", b"theirs")), tmp_path / "aside", LIMIT)
    (tmp_path / "out/kit").mkdir(parents=True)
    (tmp_path / "out/kit/z").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"kit/z: stands there with another content than the archive's; .* with --out"):
        put_into_place(tmp_path / "aside", tmp_path / "out", "kit/z")
    assert files_in(tmp_path / "out") == {"kit/z": b"mine"}


def test_the_file_that_makes_the_rest_count_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    unpack(packed(tmp_path / "set.tar", ("kit/a.txt", b"list"), ("kit/z.jpg", b"picture")), tmp_path / "aside", LIMIT)
    (tmp_path / "out/kit").mkdir(parents=True)
    moved: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (moved.append(Path(new).name), replace(old, new)))
    put_into_place(tmp_path / "aside", tmp_path / "out", "kit/a.txt")
    assert moved == ["z.jpg", "a.txt"]
