"""Each config that bears a lecture's name does what the lecture says, value for value; letters are the lectures'."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import yaml

from voc_cls.cli.train import read_settings
from voc_cls.data.augmentation import Augmentation
from voc_cls.data.dataset import Dataset, DifficultPolicy, Task
from voc_cls.data.transforms import resampled
from voc_cls.nets.layers import BatchNorm
from voc_cls.nets.network import Network, build_network, without_values
from voc_cls.training.config import ResolvedConfig, TrainConfig
from voc_cls.training.freezing import Trained, freeze
from voc_cls.training.losses import build_loss
from voc_cls.training.optimizer import build_optimizer

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
RECIPES = ("voc2007_resnet101_448", "voc2007_vgg16_448", "voc2007_vgg16_fast", "voc2007_vgg16_frozen",
           "voc2007_vgg16_published")
"""What is no lecture's: docs/training.md."""
LECTURES = [name for name in NAMES if not name.endswith("_better") and name not in RECIPES]
IMAGENET_MEAN = (123.68, 116.78, 103.94)
"""A, B, D, E: subtracted from RGB grey levels."""
NO_AUGMENTATION = Augmentation(views=1)
E_AUGMENTATION = Augmentation(horizontal=True, vertical=True, zoom=0.4, shift=0.2, rotation=180.0, edges="wrap",
                              whole_levels=True)


@dataclass(frozen=True)
class Exercise:
    """What a config comes to, as a training uses it. The network has names and shapes, but no values."""

    config: ResolvedConfig
    train: Dataset
    network: Network
    trained: Trained

    @property
    def optimizer(self) -> Any:
        variables = self.network.model.trainable_variables
        return build_optimizer(self.config.training, self.trained.factors(variables, self.network.spec.scope), False)


def exercise(name: str, folder: Path) -> Exercise:
    """The config `name` with the lists that its header makes in `folder`, and its number of classes."""
    for split in ("train", "val", "test", "train_1", "val_1"):
        (folder / f"{split}.csv").write_text("path,class\na.jpg,a\n")
    splits = ["--fold", "1"] if name.startswith("dogs") else ["--train-split", "train", "--eval-split", "test"]
    args = ["--config", str(CONFIGS / f"{name}.yaml"), "--root", str(folder), "--weights", "none", *splits]
    settings = read_settings(args, {}).config(TrainConfig).checked()
    classes = {"voc2007": 20, "cifar10": 10, "dogs": 2, "plant": 12, "imagenet": 2}[name.split("_")[0]]
    task = Task.MULTI_LABEL if classes == 20 else Task.SINGLE_LABEL
    paths = tuple(Path(f"{number}.jpg") for number in range(3200))
    labels = np.eye(classes, dtype=np.float32)[np.arange(len(paths)) % classes]
    train = Dataset("train", tuple(f"class {number}" for number in range(classes)), paths, labels,
                    np.zeros(labels.shape, bool), DifficultPolicy.IGNORE, task)
    config, chosen = settings.resolved(train), settings.network
    network = without_values(lambda: build_network(
        chosen.net, chosen.head, classes, image_size=chosen.image_size, resize=chosen.resize,
        normalisation=chosen.normalisation, cut=chosen.cut))
    return Exercise(config, train, network, freeze(network, chosen.trainable, config.training, chosen.exclude))


@pytest.fixture(scope="module")
def exercises(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exercise]:
    folder = tmp_path_factory.mktemp("lists")
    return {name: exercise(name, folder) for name in LECTURES}


def test_every_better_config_stands_beside_a_lecture_s_and_says_why():
    for name in set(NAMES) - set(LECTURES) - set(RECIPES):
        assert name.removesuffix("_better") in LECTURES
        assert re.search(r"^# Better because ", (CONFIGS / f"{name}.yaml").read_text(), re.MULTILINE)
    for name in LECTURES:
        assert re.match(r"# Lecture [A-E][:,]", (CONFIGS / f"{name}.yaml").read_text())


@pytest.mark.parametrize(("name", "values"), [
    # A: Adam 1e-5, batches of 32, 6,000 steps
    ("voc2007_vgg16", {"optimizer": "adam", "lr": 1e-5, "batch_size": 32, "steps": 6000}),
    # C: batch 64, rate 1e-6; 5 checkpoints are kept
    ("cifar10_vgg16_npz_pool3", {"batch_size": 64, "lr": 1e-6, "keep_checkpoints": 5}),
    ("cifar10_vgg16_npz_pool2", {"batch_size": 64, "lr": 1e-6, "keep_checkpoints": 5}),
    # D: Adam 1e-5, batch 32
    ("cifar10_vgg19", {"optimizer": "adam", "lr": 1e-5, "batch_size": 32}),
    # E: reduce on plateau from 1.7e-4, factor 0.5, patience 3; early stopping with min_delta 1e-4, patience 10; the
    # best checkpoint by validation loss; an epoch between two validations (100 steps of 32 for these 3,200 images)
    *((name, {"optimizer": "adam", "lr": 1.7e-4, "schedule": "plateau", "plateau_factor": 0.5, "plateau_patience": 3,
              "early_stopping": 10, "min_delta": 1e-4, "monitor": "loss", "bn_decay": 0.99, "interval": 100})
      for name in ("dogs_vs_cats_resnet50_v2", "dogs_vs_cats_resnet50_v2_frozen", "plant_seedlings",
                   "imagenet_two_classes")),
])
def test_a_lecture_s_numbers_are_the_training_s(exercises: dict[str, Exercise], name: str, values: dict[str, Any]):
    training = exercises[name].config.training
    assert {key: getattr(training, key) for key in values} == values


def test_what_no_lecture_has_is_off(exercises: dict[str, Exercise]):
    for found in exercises.values():
        training, loss = found.config.training, found.config.loss
        assert (training.warmup_steps, training.head_lr_multiplier, training.layer_decay, training.l2) == (0, 1, 1, 0)
        assert (training.clip_norm, training.accumulate, training.ema) == (None, 1, None)
        assert (loss.label_smoothing, loss.class_weights) == (0.0, "none")
        assert loss.loss == ("sigmoid" if len(found.train.classes) == 20 else "softmax")
        assert found.config.settings.compute.precision == "float32"


def test_the_optimiser_is_adam_with_the_lecture_s_rate(exercises: dict[str, Exercise]):
    for name, rate in (("voc2007_vgg16", 1e-5), ("cifar10_vgg19", 1e-5), ("cifar10_vgg16_npz_pool3", 1e-6),
                       ("dogs_vs_cats_resnet50_v2", 1.7e-4)):
        optimizer = exercises[name].optimizer
        assert isinstance(optimizer, keras.optimizers.Adam)
        assert float(optimizer.learning_rate) == pytest.approx(rate)
        assert set(optimizer.factors) == {1.0}
    chosen = exercises["dogs_vs_cats_resnet50_v2"].config.training  # E lists SGD, Adagrad and RMSprop too
    assert isinstance(build_optimizer(replace(chosen, optimizer="sgd"), (), False), keras.optimizers.SGD)


def test_the_loss_of_voc2007_is_the_lecture_s_formula(exercises: dict[str, Exercise]):
    found, random = exercises["voc2007_vgg16"], np.random.default_rng(0)
    logits, labels = random.normal(0, 3, (4, 20)).astype(np.float32), (random.random((4, 20)) < 0.1).astype(np.float32)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = -(labels * np.log(p + 1e-8) + (1 - labels) * np.log(1 - p + 1e-8)).mean()
    assert float(build_loss(found.config.loss, found.train)(labels, logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("name", "size", "mean", "resize"), [
    ("voc2007_vgg16", 224, IMAGENET_MEAN, "bilinear"),
    ("cifar10_vgg16_all", 224, IMAGENET_MEAN, "bilinear"),
    ("cifar10_resnet50", 224, IMAGENET_MEAN, "bilinear"),
    ("cifar10_vgg16_npz_pool3", 32, (123.68, 116.779, 103.939), "bilinear"),  # C: pictures stay 32 × 32
    ("cifar10_vgg16_npz_pool2", 32, (123.68, 116.779, 103.939), "bilinear"),
    ("cifar10_vgg19", 224, IMAGENET_MEAN, "bilinear-constant"),  # D: bilinear, constant edges
    ("dogs_vs_cats_resnet50_v2", 224, IMAGENET_MEAN, "bilinear"),  # E: mean subtraction also for ResNet-v2
    ("plant_seedlings", 224, IMAGENET_MEAN, "bilinear"),
])
def test_pictures_enter_the_network_as_the_lecture_s_do(exercises: dict[str, Exercise], name: str, size: int,
                                                         mean: tuple[float, ...], resize: str):
    pixels = exercises[name].network.spec.preprocessing
    assert (pixels.size, pixels.mean, pixels.std, pixels.channels) == (size, mean, (1.0, 1.0, 1.0), "RGB")
    assert pixels.resize == resize


def layers(network: Network) -> dict[str, tuple[int, ...]]:
    """The last layers, by name, with the shape of what leaves them."""
    return {layer.name: layer.output.shape[1:] for layer in network.model.layers[-6:]}


def test_a_puts_a_new_1x1_convolution_behind_dropout7(exercises: dict[str, Exercise]):
    network = exercises["voc2007_vgg16"].network
    assert list(layers(network))[-4:] == ["fc7", "dropout7", "m_fc8", "logits"]
    dropout, convolution = network.model.get_layer("dropout7"), network.model.get_layer("m_fc8")
    assert dropout.rate == 0.5
    assert (convolution.filters, convolution.kernel_size, convolution.activation.__name__) == (20, (1, 1), "linear")


@pytest.mark.parametrize(("name", "last", "grid"), [("cifar10_vgg16_npz_pool3", "pool3", (4, 4, 256)),
                                                    ("cifar10_vgg16_npz_pool2", "pool2", (8, 8, 128))])
def test_c_cuts_behind_a_pool_flattens_and_trains_one_dense_layer(exercises: dict[str, Exercise], name: str, last: str,
                                                                  grid: tuple[int, ...]):
    found = exercises[name]
    shapes = layers(found.network)
    assert list(shapes)[-4:] == [last, "flatten", "m_fc8", "logits"]
    assert shapes[last] == grid
    assert shapes["flatten"] == (1, 1, np.prod(grid))
    assert [variable.path for variable in found.network.model.trainable_variables] == [
        "vgg_16/m_fc8/kernel", "vgg_16/m_fc8/bias"]
    assert {path.split("/")[1] for path in found.network.variables()} == {
        "conv1", "conv2", "m_fc8", *(["conv3"] if last == "pool3" else [])}


@pytest.mark.parametrize("name", ["dogs_vs_cats_resnet50_v2", "plant_seedlings", "imagenet_two_classes"])
def test_e_classifies_block4_before_postnorm(exercises: dict[str, Exercise], name: str):
    found = exercises[name]
    assert found.network.grid.shape[1:] == (7, 7, 2048)
    assert not any("postnorm" in path for path in found.network.variables())
    assert list(layers(found.network))[-4:] == ["block4.unit_3.bottleneck_v2.sum", "gap", "m_logits", "logits"]
    norms = [layer for layer in found.network.model.layers if isinstance(layer, BatchNorm)]
    assert {layer.momentum for layer in norms} == {0.99}
    assert {layer.trainable for layer in norms} == {True}


def test_all_layers_are_trained_where_the_lecture_trains_all(exercises: dict[str, Exercise]):
    for name in ("voc2007_vgg16", "cifar10_vgg16_scratch", "cifar10_vgg16_all", "cifar10_resnet50", "cifar10_vgg19",
                 "dogs_vs_cats_resnet50_v2", "plant_seedlings", "imagenet_two_classes"):
        assert exercises[name].trained.frozen_parameters == 0
    only_head = exercises["cifar10_vgg16_fc8"].network.model.trainable_variables  # B
    assert [variable.path for variable in only_head] == ["vgg_16/m_fc8/kernel", "vgg_16/m_fc8/bias"]


def test_exercise_2_of_e_leaves_blocks_1_and_2_out_of_the_optimiser_s_list_alone(exercises: dict[str, Exercise]):
    found = exercises["dogs_vs_cats_resnet50_v2_frozen"]
    scopes = {name: {variable.path.split("/")[1].split(".")[0] for variable in variables} for name, variables in (
        ("trained", found.network.model.trainable_variables), ("all", found.network.model.trainable_variables
         + [variable for variable in found.network.model.non_trainable_variables if "moving" not in variable.path]))}
    assert scopes["all"] - scopes["trained"] == {"block1", "block2"}
    assert found.trained.first == "conv1"  # the statistics of the frozen blocks change, so nothing can run once for all
    assert all(layer.trainable for layer in found.network.model.layers if isinstance(layer, BatchNorm))


def test_augmentation_is_the_lecture_s_or_none(exercises: dict[str, Exercise]):
    for name, found in exercises.items():
        of_e = found.config.settings.dataset.data == "csv"
        assert found.config.augmentation == (E_AUGMENTATION if of_e else NO_AUGMENTATION), name


def test_the_augmentation_of_e_moves_uint8_pictures_and_wraps_them():
    """A flat picture stays flat wherever it is moved: no black, no interpolation with what is beyond the edge."""
    flat = np.full((32, 32, 3), 77.4, np.float32)
    for draw in range(0, 400, 4):
        moved = resampled(flat, draw, E_AUGMENTATION)
        assert moved.dtype == np.float32
        assert (moved == 77).all()
    halves = np.concatenate([np.zeros((32, 16, 3), np.float32), np.full((32, 16, 3), 200, np.float32)], axis=1)
    shifted = resampled(halves, 8, replace(E_AUGMENTATION, zoom=0.0, rotation=0.0))
    counts = [(row > 100).sum() for row in shifted[:, :, 0]]
    assert all(abs(count - 16) <= 1 for count in counts)  # what leaves on one side comes back on the other


def test_d_validates_on_5000_pictures_and_shows_ten():
    values = yaml.safe_load((CONFIGS / "cifar10_vgg19.yaml").read_text())
    assert values["dataset"]["val_fraction"] * 50_000 == 5_000
    assert "--sheet ten.png --samples 10" in (CONFIGS / "cifar10_vgg19.yaml").read_text()


def test_b_restores_all_but_what_begins_with_the_classifier_s_name():
    for name, excluded in (("cifar10_vgg16_fc8", "vgg_16/fc8"), ("cifar10_vgg16_all", "vgg_16/fc8"),
                           ("cifar10_resnet50", "resnet_v1_50/logits")):
        network = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["network"]
        assert network["exclude"] == [excluded]
    assert yaml.safe_load((CONFIGS / "cifar10_vgg16_scratch.yaml").read_text())["network"]["weights"] == "none"
