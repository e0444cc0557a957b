"""The lectures' exercises: every file in configs/ does what its header says, on small data in the set's real format."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.commands import shell
from voc_cls.nets.registry import net_spec

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
SMALL = "--steps 2 --batch-size 2 --interval 1 --val-fraction 0.25 --warmup-steps 0 --inference-precision float32"


def commands(config: Path) -> str:
    """The commands of a header, joined where they are continued."""
    header = "\n".join(line[1:] for line in config.read_text().splitlines() if line.startswith("#"))
    return "\n".join(line.strip() for line in header.replace("\\\n", "").splitlines() if line.startswith("   voc-"))


def picture(path: Path, seed: int) -> None:
    """A small photograph-like JPEG or PNG: coarse noise, scaled up."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    assert cv2.imwrite(str(path), cv2.resize(coarse, (80, 60), interpolation=cv2.INTER_CUBIC))


def cifar10(folder: Path) -> None:
    """`cifar-10-batches-py` as the archive unpacks it, with 8 pictures in each batch; every class is there."""
    folder.mkdir()
    names = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names, b"num_cases_per_batch": 8}))
    for number, batch in enumerate(["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5",
                                    "test_batch"]):
        data = np.random.default_rng(number).integers(0, 256, (8, 3072), np.uint8)
        labels = [(8 * number + row) % 10 for row in range(8)]
        files = [b"%d_%d.png" % (number, row) for row in range(8)]
        (folder / batch).write_bytes(pickle.dumps({b"data": data, b"labels": labels, b"filenames": files}, protocol=2))


def prepare(config: Path, root: Path) -> None:
    """The data that the header's commands name."""
    name = config.stem.removesuffix("_better")
    if name.startswith("cifar10"):
        cifar10(root / "cifar-10-batches-py")
    elif name.startswith("dogs_vs_cats"):
        for number in range(20):
            picture(root / f"dogs-vs-cats/train/{'cat' if number % 2 else 'dog'}.{number // 2}.jpg", number)
    elif name == "plant_seedlings":
        for species in range(12):
            for number in range(8):
                picture(root / f"plant-seedlings/train/Species {species}/{number}.png", 8 * species + number)
    elif name == "imagenet_two_classes":
        for number in range(24):
            picture(root / f"two-classes/{'n02099601' if number % 2 else 'n02123045'}/{number}.JPEG", number)
    else:
        assert name.startswith("voc2007")
        shell("voc-data demo . --pictures 30", root).check_returncode()


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory):
    """name → a TF-Slim checkpoint of this network with random values, as `voc-weights fetch name` would bring it."""
    from voc_cls.weights.formats.tf_checkpoint import write as write_checkpoint
    from voc_cls.weights.naming.slim import slim_shapes
    from voc_cls.weights.verify import filler

    folder, made = tmp_path_factory.mktemp("weights"), {}

    def make(net: str) -> Path:
        net = net.removesuffix("_conv")
        if net not in made:
            made[net] = folder / f"{net}.ckpt"
            shapes = slim_shapes(net_spec(net))
            write_checkpoint(made[net], {name: filler(name, shape) for name, shape in shapes.items()})
        return made[net]

    return make


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_an_exercise_runs_as_its_header_says(config, tmp_path, random_weights):
    prepare(config, tmp_path)
    script = commands(config).replace("configs/", f"{config.parent}/")
    script = "\n".join(line for line in script.splitlines() if not line.startswith("voc-data download"))
    script = re.sub(r'"\$\(voc-weights fetch (\w+)\)"', lambda found: str(random_weights(found[1])), script)
    if ".npz" in script:
        shell(f"voc-weights convert {random_weights('vgg_16')} vgg16_weights.npz", tmp_path).check_returncode()
        with np.load(tmp_path / "vgg16_weights.npz") as whole:
            np.savez(tmp_path / "vgg16-conv-weights.npz", **{name: whole[name] for name in whole if "conv" in name})
    script = re.sub(r"--out (runs/\S+).*", rf"--out \1 {SMALL}", script)

    done = shell(script, tmp_path, VOC_CACHE_DIR=str(tmp_path / "cache"))

    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    values, asked = yaml.safe_load((run / "config.yaml").read_text()), yaml.safe_load(config.read_text())
    assert values["network"]["net"] == asked["network"]["net"]
    assert values["network"]["trainable"] == asked["network"]["trainable"]
    single = not config.stem.startswith("voc2007")
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert ("accuracy" in evaluation) == single
    for written in re.findall(r"--(?:predictions|sheet|table) (\S+)", script):
        assert (tmp_path / written).stat().st_size > 0
    shutil.rmtree(tmp_path)  # gigabytes of checkpoints
