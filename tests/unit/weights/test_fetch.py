"""Weights by name: from a server, checked, into place."""

import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from voc_cls.errors import DownloadError, UsageError, WeightsError
from voc_cls.weights.fetch import FetchSource, check_digest, fetch, fetch_source
from voc_cls.weights.formats import tf_checkpoint
from voc_cls.weights.formats.tf_checkpoint import write_checkpoint
from voc_cls.weights.load import load_weights_file
from voc_cls.weights.origins import Archive


@pytest.fixture
def origin(tmp_path, save_slim, arrays):
    """A v1 checkpoint as TF-Slim publishes it."""
    return save_slim(tmp_path / "origin/small.ckpt", arrays, 1)


@pytest.fixture
def server(origin, tmp_path, file_server):
    """Serves the checkpoint in a .tar.gz."""
    with tarfile.open(tmp_path / "small.tar.gz", "w:gz") as archive:
        archive.add(origin, "small.ckpt")
    return file_server((tmp_path / "small.tar.gz").read_bytes())


@pytest.fixture
def source(origin, server):
    """A row of the table for that checkpoint."""
    return FetchSource(file="small.ckpt", what="a small checkpoint", where="from here", attribution="by nobody",
                       origin=Archive(server.url("small.tar.gz"), "small.ckpt"),
                       check=partial(check_digest, expected=load_weights_file(origin).digest()))


def test_fetched_weights_are_put_in_place_and_can_be_read(source, server, origin, tmp_path):
    path = fetch(source, tmp_path / "cache/weights")
    assert path == tmp_path / "cache/weights/small.ckpt"
    assert path.read_bytes() == origin.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["small.ckpt"]
    assert len(server.requests) == 1


def test_a_second_call_sees_the_good_file_says_so_and_asks_no_server(source, server, tmp_path):
    fetch(source, tmp_path / "cache")
    said = []
    fetch(source, tmp_path / "cache", say=said.append)
    assert len(server.requests) == 1
    assert said == ["by nobody", f"{tmp_path}/cache/small.ckpt is there already and was checked: nothing to download"]


@pytest.mark.parametrize("damage", ["cut", "another"])
def test_a_file_that_is_not_good_is_fetched_anew(damage, source, server, origin, tmp_path):
    path = fetch(source, tmp_path / "cache")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
        write_checkpoint(path, {"other": np.ones(3, np.float32)})
    said = []
    fetch(source, tmp_path / "cache", say=said.append)
    assert len(server.requests) == 2
    assert tf_checkpoint.read(path).digest() == load_weights_file(origin).digest()
    assert any(line.startswith("fetched anew: ") for line in said)


def test_weights_with_another_content_are_refused_and_leave_nothing(source, server, save_slim, tmp_path):
    save_slim(tmp_path / "wrong/small.ckpt", {"vgg_16/conv1/conv1_1/biases": np.zeros(2, np.float32)}, 1)
    with tarfile.open(tmp_path / "wrong.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "wrong/small.ckpt", "small.ckpt")
    server.body = (tmp_path / "wrong.tar.gz").read_bytes()
    with pytest.raises(WeightsError, match=r"small\.ckpt does not hold the expected weights: its digest is "):
        fetch(source, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_good_file_survives_a_failed_fetch(source, server, tmp_path):
    path = fetch(source, tmp_path / "cache")
    before = path.read_bytes()[:100]
    path.write_bytes(before)
    server.statuses = [404]
    with pytest.raises(DownloadError, match="404"):
        fetch(source, tmp_path / "cache")
    assert path.read_bytes() == before


def test_an_archive_brought_by_hand_needs_no_server(source, server, origin, tmp_path):
    path = fetch(source, tmp_path / "cache", local=tmp_path / "small.tar.gz")
    assert path.read_bytes() == origin.read_bytes()
    assert server.requests == []
    with pytest.raises(WeightsError, match=r"nowhere\.tar\.gz: no such file"):
        fetch(source, tmp_path / "cache", local=Path("nowhere.tar.gz"))


def test_a_folder_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WeightsError, match=r"file/weights: the weights cannot be written there .* with `out`"):
        fetch(source, tmp_path / "file/weights")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"no weights called vgg16 .* known are vgg_16_conv, vgg_16, .*ion_v3$"):
        fetch_source("vgg16")
    with pytest.raises(UsageError, match=r"there are no published weights of alexnet_v2: train it with `weights` none"):
        fetch_source("alexnet_v2")


@pytest.mark.parametrize(("name", "archive"), [
    ("vgg_19", "vgg_19_2016_08_28.tar.gz"), ("resnet_v1_152", "resnet_v1_152_2016_08_28.tar.gz"),
    ("resnet_v2_50", "resnet_v2_50_2017_04_14.tar.gz"), ("inception_v3", "inception_v3_2016_08_28.tar.gz"),
])
def test_every_published_checkpoint_has_a_source(name, archive):
    source = fetch_source(name)
    assert source.origin.url == f"https://storage.googleapis.com/download.tensorflow.org/models/{archive}"
    assert (source.origin.member, source.file) == (f"{name}.ckpt", f"{name}.ckpt")
    assert "no digest to compare with" in source.where
