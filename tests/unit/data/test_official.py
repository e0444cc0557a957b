"""Official archives, from a real server that behaves well or badly, into place."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import FileServer
from voc_cls.data import official
from voc_cls.data.load import read_dataset
from voc_cls.data.official import OFFICIAL, OfficialArchive, chosen_parts, fetch_archive, mirrored, put_into_place
from voc_cls.errors import DataError, DownloadError, UsageError

Serve = Callable[[bytes], FileServer]


def pack(devkit: Path, file: Path, split: str) -> Path:
    """The devkit's pictures of one split as the official archives have them."""
    names = (devkit / f"ImageSets/Main/{split}.txt").read_text().split()
    with tarfile.open(file, "w") as archive:
        for folder, suffix in (("Annotations", "xml"), ("JPEGImages", "jpg")):
            for name in names:
                archive.add(devkit / folder / f"{name}.{suffix}", f"VOCdevkit/VOC2007/{folder}/{name}.{suffix}")
        archive.add(devkit / f"ImageSets/Main/{split}.txt", f"VOCdevkit/VOC2007/ImageSets/Main/{split}.txt")
    return file


def row(file: Path, split: str, url: str = "http://127.0.0.1:9/nowhere.tar") -> OfficialArchive:
    """A row of the table for an archive of ours."""
    content = file.read_bytes()
    return OfficialArchive(split, url, len(content), hashlib.sha256(content).hexdigest(), len(content),
                           f"VOCdevkit/VOC2007/ImageSets/Main/{split}.txt")


@pytest.fixture
def packed(drawn_devkit: Path, tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "served").mkdir()
    return {split: pack(drawn_devkit, tmp_path / f"served/{split}.tar", split) for split in ("trainval", "test")}


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_both_parts_are_downloaded_checked_and_merged_into_one_devkit(packed: dict[str, Path], tmp_path: Path,
                                                                      file_server: Serve, drawn_devkit: Path):
    for split, file in packed.items():
        server = file_server(file.read_bytes())
        server.breaks = [5000]  # it is taken up again
        fetch_archive(row(file, split, server.url(f"VOC{split}.tar")), tmp_path / "out")
        assert len(server.requests) == 2
    assert everything_in(tmp_path / "out") == ["VOCdevkit"]
    for split in packed:
        here, there = (read_dataset("voc", root, split) for root in (tmp_path / "out/VOCdevkit/VOC2007", drawn_devkit))
        assert [path.read_bytes() for path in here.paths] == [path.read_bytes() for path in there.paths]
        assert (here.labels == there.labels).all()


def test_what_is_there_is_not_fetched_again(packed: dict[str, Path], tmp_path: Path, file_server: Serve):
    server = file_server(packed["test"].read_bytes())
    said: list[str] = []
    for _ in range(2):
        fetch_archive(row(packed["test"], "test", server.url("VOCtest.tar")), tmp_path, say=said.append)
    assert len(server.requests) == 1
    proof = tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/test.txt"
    assert said[-1] == f"VOCtest.tar: is there already, as {proof} shows"


def test_an_archive_brought_by_hand_needs_no_server_and_stays(packed: dict[str, Path], tmp_path: Path):
    fetch_archive(row(packed["test"], "test"), tmp_path / "out", packed["test"])
    assert packed["test"].exists()
    assert everything_in(tmp_path / "out") == ["VOCdevkit"]


@pytest.mark.parametrize("brought", [True, False])
def test_an_archive_with_another_digest_is_not_unpacked(packed: dict[str, Path], tmp_path: Path, file_server: Serve,
                                                        brought: bool):
    content = bytearray(packed["test"].read_bytes())
    content[7000] ^= 1
    right = row(packed["test"], "test", file_server(bytes(content)).url("VOCtest.tar"))
    packed["test"].write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(DownloadError, match=f"has {len(content):,} bytes and the SHA-256 {found}, expected "
                                            f"{right.sha256}; it is damaged or another file"):
        fetch_archive(right, tmp_path / "out", packed["test"] if brought else None)
    assert everything_in(tmp_path / "out") == []
    assert packed["test"].exists()


def test_half_a_download_is_kept_and_carried_on(packed: dict[str, Path], tmp_path: Path, file_server: Serve,
                                                monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("voc_cls.downloads.BREAKS", 0)
    server = file_server(packed["test"].read_bytes())
    server.breaks = [20_000]
    archive = row(packed["test"], "test", server.url("VOCtest.tar"))
    with pytest.raises(DownloadError, match="run the command again to carry on"):
        fetch_archive(archive, tmp_path / "out")
    assert everything_in(tmp_path / "out") == [".VOCtest.tar.part", ".VOCtest.tar.part.version"]
    fetch_archive(archive, tmp_path / "out")
    assert "Range" in server.requests[-1]
    assert everything_in(tmp_path / "out") == ["VOCdevkit"]


def test_a_page_in_place_of_an_archive_is_refused_at_once(packed: dict[str, Path], tmp_path: Path, file_server: Serve):
    server = file_server(b"<!DOCTYPE html><title>moved</title>")
    with pytest.raises(DownloadError, match=r"not the file it should be: the server sent .* of 35 bytes"):
        fetch_archive(row(packed["test"], "test", server.url("VOCtest.tar")), tmp_path / "out")
    assert everything_in(tmp_path / "out") == []


def test_a_whole_archive_of_something_else_is_refused(packed: dict[str, Path], tmp_path: Path):
    other = replace(row(packed["test"], "test"), proof="VOCdevkit/VOC2007/ImageSets/Main/trainval.txt")
    with pytest.raises(DownloadError, match=r"has no VOCdevkit/VOC2007/ImageSets/Main/trainval\.txt in it"):
        fetch_archive(other, tmp_path / "out", packed["test"])
    assert everything_in(tmp_path / "out") == []


def test_a_disk_without_room_is_told_before_anything_is_fetched(packed: dict[str, Path], tmp_path: Path):
    huge = replace(row(packed["test"], "test"), unpacked=10**18)
    with pytest.raises(DataError, match=r"GB free, but nowhere\.tar and what it unpacks to need 1000000000\.0 GB;"):
        fetch_archive(huge, tmp_path / "out")


def test_two_processes_do_not_write_into_one_folder(packed: dict[str, Path], tmp_path: Path):
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="another voc-data download writes into it; wait until it is done"):
        fetch_archive(row(packed["test"], "test"), tmp_path, packed["test"])
    os.close(folder)


def test_a_folder_that_cannot_be_written_is_named(packed: dict[str, Path], tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/out: .*, while putting nowhere\.tar there; choose another .* `out`"):
        fetch_archive(row(packed["test"], "test"), tmp_path / "file/out", packed["test"])


def test_what_a_killed_process_left_aside_does_not_matter(packed: dict[str, Path], tmp_path: Path):
    (tmp_path / "out/.nowhere.tar.unpacking/VOCdevkit").mkdir(parents=True)
    (tmp_path / "out/.nowhere.tar.unpacking/VOCdevkit/half").write_text("half")
    fetch_archive(row(packed["test"], "test"), tmp_path / "out", packed["test"])
    assert everything_in(tmp_path / "out") == ["VOCdevkit"]
    assert everything_in(tmp_path / "out/VOCdevkit") == ["VOC2007"]


def test_the_table_is_sound():
    digests = [archive.sha256 for known in OFFICIAL.values() for archive in known.archives]
    assert len(set(digests)) == len(digests) == 4
    for known in OFFICIAL.values():
        for archive in known.archives:
            assert len(archive.sha256) == 64
            assert archive.url.startswith((official.OXFORD, official.TORONTO))
            assert archive.proof.startswith(known.root)
            assert archive.name.endswith((".tar", ".tar.gz"))


def test_parts_and_mirrors_are_chosen_by_name():
    both = OFFICIAL["voc2007"].archives
    assert [archive.part for archive in chosen_parts(OFFICIAL["voc2007"], ("test",))] == ["test"]
    assert chosen_parts(OFFICIAL["voc2007"], ()) == both
    with pytest.raises(UsageError, match="`parts` val: there is no such part; there is trainval and test"):
        chosen_parts(OFFICIAL["voc2007"], ("val",))
    assert [archive.url for archive in mirrored(both, "https://mirror/voc/")] == [
        "https://mirror/voc/VOCtrainval_06-Nov-2007.tar", "https://mirror/voc/VOCtest_06-Nov-2007.tar"]
    assert mirrored(both[1:], "https://mirror/VOCtest_06-Nov-2007.tar")[0].url == "https://mirror/VOCtest_06-Nov-2007.tar"
    with pytest.raises(UsageError, match="is the address of one archive, but 2 are wanted"):
        mirrored(both, "https://mirror/VOCtest_06-Nov-2007.tar")


def tree(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / "kit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_two_archives_of_a_set_come_to_lie_in_one_folder(tmp_path: Path):
    (tmp_path / "out").mkdir()
    put_into_place(tree(tmp_path / "one", a="a", same="s"), tmp_path / "out", "kit/a")
    put_into_place(tree(tmp_path / "two", b="b", same="s"), tmp_path / "out", "kit/b")
    assert everything_in(tmp_path / "out/kit") == ["a", "b", "same"]


def test_nothing_is_moved_where_another_file_is_in_the_way(tmp_path: Path):
    tree(tmp_path / "out", z="mine")
    with pytest.raises(DataError, match=r"kit/z: is there with other content than the archive's; .* with `out`"):
        put_into_place(tree(tmp_path / "aside", a="a", z="theirs"), tmp_path / "out", "kit/z")
    assert everything_in(tmp_path / "out/kit") == ["z"]


def test_the_file_that_makes_the_rest_count_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "out/kit").mkdir(parents=True)
    moved: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (moved.append(Path(new).name), replace(old, new)))
    put_into_place(tree(tmp_path / "aside", a="list", z="picture"), tmp_path / "out", "kit/a")
    assert moved == ["z", "a"]
