"""One checkpoint out of a .tar.gz."""

import hashlib
import tarfile

import numpy as np
import pytest

from tests.archives import packed
from voc_cls.errors import DownloadError
from voc_cls.weights.fetch import LARGEST, Archive

CONTENT = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def checkpoint(tmp_path):
    """Where the checkpoint is to be put, in an empty folder."""
    (tmp_path / "aside").mkdir()
    return tmp_path / "aside/vgg_16.ckpt"


def archive(**options):
    return Archive("http://127.0.0.1:9/vgg_16_2016_08_28.tar.gz", "vgg_16.ckpt", **options)


@pytest.mark.parametrize("name", ["vgg_16.ckpt", "./vgg_16.ckpt"])
def test_the_checkpoint_is_taken_and_a_file_brought_by_hand_stays(name, tmp_path, checkpoint):
    brought = packed(tmp_path / "brought.tar.gz", ("README", b"hello"), (name, CONTENT), ("vgg_19.ckpt", b"other"),
                     mode="w:gz")
    archive().write(checkpoint, brought)
    assert checkpoint.read_bytes() == CONTENT
    assert [file.name for file in checkpoint.parent.iterdir()] == ["vgg_16.ckpt"]
    assert brought.exists()


def test_a_download_is_removed_once_it_is_unpacked(tmp_path, checkpoint, file_server):
    server = file_server(packed(tmp_path / "served.tar.gz", ("vgg_16.ckpt", CONTENT), mode="w:gz").read_bytes())
    Archive(server.url("vgg.tar.gz"), "vgg_16.ckpt").write(checkpoint)
    assert checkpoint.read_bytes() == CONTENT
    assert sorted(file.name for file in tmp_path.iterdir()) == ["aside", "served.tar.gz"]


@pytest.mark.parametrize("name", ["../vgg_16.ckpt", "/vgg_16.ckpt", "sub/../vgg_16.ckpt", "models/vgg_16.ckpt"])
def test_a_name_that_leads_elsewhere_is_not_the_checkpoint_and_nothing_is_written(name, tmp_path, checkpoint):
    brought = packed(tmp_path / "evil.tar.gz", (name, CONTENT), mode="w:gz")
    with pytest.raises(DownloadError, match=r"evil\.tar\.gz: has no vgg_16\.ckpt in it, only .*vgg_16\.ckpt; fetch"):
        archive().write(checkpoint, brought)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["aside", "evil.tar.gz"]


def test_a_bomb_is_not_unpacked(tmp_path, checkpoint):
    bomb = tarfile.TarInfo("vgg_16.ckpt")
    bomb.size = LARGEST + 1
    with pytest.raises(DownloadError, match="claims more than 2,147,483,648 bytes"):
        archive().write(checkpoint, packed(tmp_path / "bomb.tar.gz", bomb, mode="w:gz"))


def test_a_page_saved_under_the_archives_name_is_refused(tmp_path, checkpoint):
    (tmp_path / "page.tar.gz").write_bytes(b"<html>")
    with pytest.raises(DownloadError, match=r"page\.tar\.gz: is not a whole \.tar"):
        archive().write(checkpoint, tmp_path / "page.tar.gz")


def test_a_digest_that_somebody_knows_is_enforced(tmp_path, checkpoint):
    brought = packed(tmp_path / "brought.tar.gz", ("vgg_16.ckpt", CONTENT), mode="w:gz")
    right = hashlib.sha256(brought.read_bytes()).hexdigest()
    with pytest.raises(DownloadError, match=f"the SHA-256 {right}, expected {'0' * 64}"):
        archive(sha256="0" * 64).write(checkpoint, brought)
    assert not checkpoint.exists()
    archive(sha256=right.upper()).write(checkpoint, brought)
    assert checkpoint.exists()
