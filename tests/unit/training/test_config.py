"""Defaults that depend on each other, and values that cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from voc_cls.cli.train import PROGRAM, read_settings
from voc_cls.data.augmentation import AugmentationConfig
from voc_cls.errors import UsageError
from voc_cls.training.config import ComputeConfig, DatasetConfig, NetworkConfig, TrainConfig, TrainingConfig


def config(**training: object) -> TrainConfig:
    return TrainConfig(DatasetConfig(root=(Path("devkit"),)), NetworkConfig(weights="none"),
                       training=TrainingConfig(**training))  # type: ignore[arg-type]


def test_fine_tuning_everything_has_the_lectures_defaults():
    training = config().checked().training
    assert (training.steps, training.lr, training.batch_size, training.l2) == (6000, 1e-5, 32, 0.0)


def test_the_head_alone_has_defaults_of_its_own_and_given_values_win():
    head = replace(config(solver="descent"), network=NetworkConfig(weights="none", head="gap", trainable="head"))
    assert head.checked().training.lr > 1e-4
    for name, l2 in (("fc", 0.0), ("gap", 5e-4), ("gap+max", 5e-4)):
        assert replace(head, network=replace(head.network, head=name)).checked().training.l2 == l2
    assert replace(head, training=TrainingConfig(lr=0.5)).checked().training.lr == 0.5


@pytest.mark.parametrize("wrong", [
    {"steps": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": -1.0}, {"lr": float("nan")}, {"seed": -1}, {"seed": 2**32},
    {"l2": float("nan")}, {"l2": -0.1}, {"accumulate": 0}, {"ema": 1.0}, {"clip_norm": 0.0}, {"layer_decay": 1.5},
    {"head_lr_multiplier": -1.0}, {"interval": 0}, {"keep_checkpoints": 0}, {"early_stopping": 0},
    {"plateau_factor": 1.0}, {"eval_weights": "ema"}, {"warmup_steps": 6000},
    {"warmup_steps": 5, "schedule": "plateau"}, {"min_delta": 0.1}, {"min_delta": -1.0, "early_stopping": 3},
    {"momentum": 0.9}, {"weight_decay": 0.1, "optimizer": "sgd"}, {"momentum": 1.0, "optimizer": "momentum"},
    {"bn_decay": 1.0}, {"swa": 0.0}, {"swa": 0.25, "ema": 0.9}, {"eval_weights": "swa", "ema": 0.9},
])
def test_a_value_that_cannot_be_used_names_its_parameter(wrong: dict[str, object]):
    with pytest.raises(UsageError, match=f"^`{next(iter(wrong))}` "):
        config(**wrong).checked()


def test_a_crop_is_not_taken_from_resized_pictures():
    cropped = replace(config(), augmentation=AugmentationConfig("crop"), compute=ComputeConfig(cache="memory"))
    with pytest.raises(UsageError, match=r"^`cache` memory: keeps resized pictures, and `augment` crop"):
        cropped.checked()


@pytest.mark.parametrize(("optimizer", "rate", "settings"), [
    ("adam", 1e-5, {}), ("rmsprop", 1e-5, {}), ("adamw", 1e-5, {"weight_decay": 0.004}), ("sgd", 1e-3, {}),
    ("adagrad", 1e-3, {}), ("momentum", 1e-3, {"momentum": 0.9})])
def test_an_optimiser_has_defaults_of_its_own(optimizer: str, rate: float, settings: dict[str, float]):
    training = config(optimizer=optimizer).checked().training
    assert training.lr == rate
    assert {name: getattr(training, name) for name in ("momentum", "weight_decay")
            if getattr(training, name) is not None} == settings


def test_early_stopping_wants_something_to_watch():
    early = config(early_stopping=3)
    early.checked()
    with pytest.raises(UsageError, match="`early_stopping` 3: nothing is validated with `val_split` none"):
        replace(early, dataset=replace(early.dataset, val_split="none")).checked()


def test_the_average_is_evaluated_where_there_is_one():
    assert config().checked().training.eval_weights == "raw"
    assert config(ema=0.9).checked().training.eval_weights == "ema"
    assert config(swa=0.2).checked().training.eval_weights == "swa"
    assert config(ema=0.9, eval_weights="raw").checked().training.eval_weights == "raw"


def test_a_yaml_file_gives_values_and_leaves_the_rest_to_the_defaults(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("dataset: {root: devkit, difficult: negative}\nnetwork: {weights: none}\ntraining: {lr: 1e-4}\n"
                    "provenance: {anything: 1}\n")
    read = read_settings(["--config", str(file)], {}).config(TrainConfig)
    assert read.dataset.root == (Path("devkit"),)
    assert read.training.lr == 1e-4
    assert read.training.batch_size == 32


@pytest.mark.parametrize(("text", "named"), [
    ("training: {learning_rate: 1}", r"training\.learning_rate: no such key; known are steps"),
    ("schedules: {}", "unknown key schedules; known are dataset, network, augmentation, training, loss, compute, run"),
    ("training: {steps: many}", r"training\.steps: 'many'"),
    ("- a list", "has no keys"),
    ("dataset: {data: cifar}", r"dataset\.data: 'cifar' is not one of voc, cifar10, csv, folder"),
    ("dataset: {val_split: }", r"dataset\.val_split: is empty"),
    ("compute: {precision: half}", r"compute\.precision: 'half' is not one of float32"),
    ("training: {eval_weights: both}", r"training\.eval_weights: 'both' is not one of raw, ema"),
    ("network: {exclude: fc6}", r"network\.exclude: 'fc6' is not a list"),
    ("augmentation: {vertical_flip: maybe}", r"augmentation\.vertical_flip: 'maybe' is not true or false"),
    ("{", "cannot be read"),
])
def test_a_wrong_key_or_value_in_the_yaml_is_named(tmp_path: Path, text: str, named: str):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=named):
        PROGRAM.read_file(file, f"--config {file}")


def test_the_config_of_a_run_that_cannot_be_repeated_says_why_and_what_to_pass(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("dataset: {root: /a/unknown}\nnetwork: {weights: /a/unknown}\nprovenance: {not_repeatable: "
                    "{dataset: its data sets were made in Python, network: its network had been trained before}}\n")
    with pytest.raises(UsageError) as error:
        read_settings([], {"VOC_TRAIN_CONFIG": str(file), "VOC_TRAIN_ROOT": "devkit"})
    assert str(error.value) == (f"--config {file}: this run cannot be repeated, its data sets were made in Python and "
                                "its network had been trained before; pass `weights`")
    settings = read_settings(["--config", str(file), "--root", "devkit", "--weights", "none"], {})
    assert settings.config(TrainConfig).network.weights == "none"


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("dataset: {root: devkit}\nnetwork: {weights: none}\ntraining: {steps: 10, lr: 1e-4, seed: 1}\n")
    environment = {"VOC_TRAIN_STEPS": "20", "VOC_TRAIN_SEED": "2", "VOC_TRAIN_HORIZONTAL_FLIP": "no",
                   "VOC_TRAIN_EXCLUDE": "fc6 fc7", "VOC_TRAIN_EMA": ""}
    read = read_settings(["--config", str(file), "--steps", "30"], environment).config(TrainConfig)
    assert (read.training.steps, read.training.seed, read.training.lr) == (30, 2, 1e-4)
    assert (read.augmentation.horizontal_flip, read.network.exclude) == (False, ("fc6", "fc7"))
    named = read_settings([], {"VOC_TRAIN_CONFIG": str(file)}).config(TrainConfig)
    assert (named.training.steps, named.run.out) == (10, Path("runs/voc"))


def test_several_roots_come_from_flags_variables_and_files(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("dataset: {root: [a b, c], classes: [cat]}\nnetwork: {weights: none}\n")
    for args, environment, roots in ((["--root", "d", "--root", "e"], {}, ("d", "e")), ([], {}, ("a b", "c")),
                                     ([], {"VOC_TRAIN_ROOT": "f g:h"}, ("f g", "h"))):
        dataset = read_settings(["--config", str(file), *args], environment).config(TrainConfig).dataset
        assert (dataset.root, dataset.classes) == (tuple(map(Path, roots)), ("cat",))


def test_resuming_takes_the_run_s_own_config(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("dataset: {root: devkit}\nnetwork: {weights: none}\ntraining: {steps: 7}\n")
    for args, environment in ((["--out", str(tmp_path), "--resume"], {}),
                              ([], {"VOC_TRAIN_OUT": str(tmp_path), "VOC_TRAIN_RESUME": "yes"})):
        read = read_settings(args, environment).config(TrainConfig)
        assert (read.training.steps, read.run.out, read.run.resume) == (7, tmp_path, True)


def test_a_value_that_cannot_be_is_named_by_where_it_stands(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("dataset: {root: devkit}\nnetwork: {weights: none}\ntraining: {lr: 0, warmup_steps: 9}\n")
    for environment, message in (({}, f"{file}: training.lr 0: must be from"),
                                 ({"VOC_TRAIN_LR": "-1"}, "VOC_TRAIN_LR -1: must be from"),
                                 ({"VOC_TRAIN_LR": "1e-4", "VOC_TRAIN_STEPS": "8"},
                                  f"{file}: training.warmup_steps 9: must be below VOC_TRAIN_STEPS 8")):
        settings = read_settings(["--config", str(file)], environment)
        with pytest.raises(UsageError) as error, settings.explaining():
            settings.config(TrainConfig).checked()
        assert str(error.value).startswith(message)


@pytest.mark.parametrize(("variable", "value", "message"), [
    ("VOC_TRAIN_STEP", "1", "VOC_TRAIN_STEP: no such variable; did you mean VOC_TRAIN_STEPS"),
    ("VOC_TRAIN_DOCTOR", "1", "VOC_TRAIN_DOCTOR: no such variable"),
    ("VOC_TRAIN_STEPS", "many", "VOC_TRAIN_STEPS: 'many' cannot be used"),
    ("VOC_TRAIN_RESUME", "perhaps", "VOC_TRAIN_RESUME: 'perhaps' is not true or false"),
])
def test_a_wrong_variable_is_named(variable: str, value: str, message: str):
    with pytest.raises(UsageError) as error:
        read_settings([], {variable: value})
    assert str(error.value).startswith(message)
